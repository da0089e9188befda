//! What is known of a signature's acceleration, for people.

/// How far it is with a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing has been tried: its turn has not come, or no request is known to try with.
    Waiting,
    /// Candidates are made and compared.
    Preparing,
    /// Its runs have moved to another engine.
    Moved,
    /// Its runs stay with TensorFlow as it was loaded.
    Stays,
}

impl Progress {
    /// Returns the name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Progress::Waiting => "waiting",
            Progress::Preparing => "preparing",
            Progress::Moved => "moved",
            Progress::Stays => "stays",
        }
    }
}

/// One signature's.
#[derive(Clone, Debug)]
pub struct Report {
    /// The signature.
    pub signature: String,
    /// How far it is.
    pub progress: Progress,
    /// What runs it: `tensorflow`, `tensorflow frozen`, `openvino`, or several, as in `tensorflow + openvino`; with a
    /// lower precision behind it, as in `openvino int8`.
    pub engine: String,
    /// Why it stays, or waits, or is not in the precision that was asked for; empty if there is nothing to say.
    pub reason: String,
    /// What was tried.
    pub candidates: Vec<Candidate>,
    /// Runs that the other engine refused, and TensorFlow did.
    pub refused: u64,
}

/// A way to run a signature that was tried.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// As in [`Report::engine`].
    pub engine: String,
    /// The largest difference of a number, relative to its tensor's largest; `None` if it could not be compared.
    pub difference: Option<f64>,
    /// The share of rows and values that agree with the reference's; `None` unless it computes in lower precision.
    pub agreement: Option<f64>,
    /// Its times; `None` if it was not timed.
    pub times: Option<Times>,
    /// Why it was not chosen; empty if it was.
    pub refusal: String,
}

impl Candidate {
    /// Returns one of which nothing is known yet.
    pub fn new(engine: String) -> Candidate {
        Candidate { engine, difference: None, agreement: None, times: None, refusal: String::new() }
    }
}

/// Times of one run, in seconds: the reference's and the candidate's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// By one caller: wall and CPU time.
    pub alone: Pair,
    /// By as many callers as there are cores: the time between two answers.
    pub together: Pair,
}

/// A figure of both.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pair {
    /// Wall time of the reference and of the candidate.
    pub wall: (f64, f64),
    /// CPU time of the reference and of the candidate.
    pub cpu: (f64, f64),
}
