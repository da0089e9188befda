//! Files that others change while the server runs.
//!
//! They are read every second and compared. Contents make no mistakes that times and inodes do (a second change within a
//! tick of the clock, links, file systems without either), and cost some microseconds.

use std::io;
use std::sync::Weak;
use std::time::Duration;

/// Pause between two looks at the files.
const PAUSE: Duration = Duration::from_secs(1);
/// Pause before the second look at files that may be half written.
const SETTLED_AFTER: Duration = Duration::from_millis(200);

/// Files, and what is made of them. A half of their content may look like a whole: it is used once two looks have found the
/// same.
pub(crate) trait Files: Send + 'static {
    /// What they contain.
    type Content: PartialEq + Send;
    /// What is made of that.
    type Made;
    /// Reads them.
    fn read(&self) -> Result<Self::Content, String>;

    /// Makes what the server uses.
    fn make(&self, content: &Self::Content) -> Result<Self::Made, String>;
}

/// The state of following files.
pub(crate) struct Followed<F: Files> {
    /// The files.
    pub(crate) files: F,
    /// What is in use.
    pub(crate) used: F::Content,
    /// What was found instead at the last look, and is not in use.
    other: Option<Other<F::Content>>,
}

/// What was found in files.
struct Other<C> {
    found: Result<C, String>,
    /// True once it was found to be of no use, and the log says so.
    is_judged: bool,
}

/// The outcome of a look at files.
#[derive(Debug)]
pub(crate) enum Look<M> {
    /// There is nothing new.
    Same,
    /// They have changed, and may be half written.
    Unsettled,
    /// They have changed to this.
    Renewed(M),
    /// They cannot be used. Said once, of files that no longer change: they may be half written, or one of them be new and
    /// the other one not yet.
    Failed(String),
}

impl<F: Files> Followed<F> {
    /// Reads the files; also returns what was made of them.
    pub(crate) fn begin(files: F) -> Result<(Followed<F>, F::Made), String> {
        let used = files.read()?;
        let made = files.make(&used)?;
        Ok((Followed { files, used, other: None }, made))
    }

    /// Looks at the files.
    pub(crate) fn look(&mut self) -> Look<F::Made> {
        let found = self.files.read();
        if found.as_ref() == Ok(&self.used) {
            self.other = None;
            return Look::Same;
        }
        let Some(other) = self.other.as_mut().filter(|other| other.found == found) else {
            self.other = Some(Other { found, is_judged: false });
            return Look::Unsettled;
        };
        if std::mem::replace(&mut other.is_judged, true) {
            return Look::Same;
        }
        let judged = found.and_then(|content| self.files.make(&content).map(|made| (made, content)));
        match judged {
            Ok((made, content)) => {
                (self.used, self.other) = (content, None);
                Look::Renewed(made)
            }
            Err(why) => Look::Failed(why),
        }
    }

    /// Looks at the files, in a thread called `name`, until nobody holds `user`, which is told what came of each look.
    pub(crate) fn follow<U: Send + Sync + 'static>(
        mut self,
        name: &str,
        user: Weak<U>,
        tell: impl Fn(&U, &F, Look<F::Made>) + Send + 'static,
    ) -> io::Result<()> {
        let looks = move || {
            let mut pause = PAUSE;
            loop {
                std::thread::sleep(pause);
                let Some(user) = user.upgrade() else { return };
                let look = self.look();
                pause = if matches!(look, Look::Unsettled) { SETTLED_AFTER } else { PAUSE };
                tell(&user, &self.files, look);
            }
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(looks).map(|_detached| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Files that contain a text, which is good if it is a number.
    struct Text(RefCell<Result<String, String>>);

    impl Files for Text {
        type Content = String;
        type Made = i64;

        fn read(&self) -> Result<String, String> {
            self.0.borrow().clone()
        }

        fn make(&self, content: &String) -> Result<i64, String> {
            content.parse().map_err(|_| format!("{content} is no number"))
        }
    }

    /// Looks once at each of `contents`; returns what the looks came to.
    fn looks(contents: &[&str]) -> Vec<String> {
        let (mut followed, made) = Followed::begin(Text(RefCell::new(Ok("1".to_owned())))).unwrap();
        assert_eq!(made, 1);
        let mut look = |content: &&str| {
            let gone = content.is_empty();
            *followed.files.0.borrow_mut() =
                if gone { Err("gone".to_owned()) } else { Ok((*content).to_owned()) };
            match followed.look() {
                Look::Same => "same".to_owned(),
                Look::Unsettled => "unsettled".to_owned(),
                Look::Renewed(made) => format!("renewed {made}"),
                Look::Failed(why) => format!("failed: {why}"),
            }
        };
        contents.iter().map(&mut look).collect()
    }

    #[test]
    fn what_may_be_half_written_is_used_once_it_stays() {
        assert_eq!(
            looks(&["1", "2", "22", "22", "22", "2", "22", "2", "2"]),
            [
                "same",
                "unsettled",
                "unsettled",
                "renewed 22",
                "same",
                "unsettled",
                "same",
                "unsettled",
                "renewed 2"
            ]
        );
        assert_eq!(
            looks(&["x", "y", "y", "y", "", "", "", "1"]),
            [
                "unsettled",
                "unsettled",
                "failed: y is no number",
                "same",
                "unsettled",
                "failed: gone",
                "same",
                "same"
            ]
        );
    }

    #[test]
    fn files_that_cannot_be_used_at_the_start_are_an_error() {
        let begun = |text: &str| Followed::begin(Text(RefCell::new(Ok(text.to_owned())))).err();
        assert_eq!((begun("x"), begun("7")), (Some("x is no number".to_owned()), None));
    }
}
