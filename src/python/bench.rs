//! The load generator for Python: `servable.bench` says what is asked, and reads what became of it.

use super::{raised, released};
use crate::bench::{
    self, Failed, Group, Histogram, Load, Outcome, Plan, Run, Seen, Spacing, Target, Wanted, Wire,
};
use crate::error::{Error, Result};
use crate::tls::outgoing::Trust;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use std::path::PathBuf;
use std::time::Duration;

/// `_core.BenchTarget`.
#[derive(FromPyObject)]
pub(super) struct BenchTarget {
    grpc: bool,
    host: String,
    port: u16,
    tls: bool,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

/// `_core.BenchRequest`.
#[derive(FromPyObject)]
pub(super) struct BenchRequest {
    path: String,
    headers: Vec<(String, String)>,
    body: Option<PyBackedBytes>,
}

/// `_core.BenchGroup`.
#[derive(FromPyObject)]
struct BenchGroup {
    weight: f64,
    requests: Vec<BenchRequest>,
}

/// `_core.BenchPlan`.
#[derive(FromPyObject)]
pub(super) struct BenchPlan {
    target: BenchTarget,
    groups: Vec<BenchGroup>,
    concurrency: usize,
    rate: Option<f64>,
    arrivals: String,
    max_outstanding: usize,
    threads: usize,
    connections: usize,
    warm_up: f64,
    duration: f64,
    count: Option<u64>,
    timeout: f64,
    seed: u64,
}

impl BenchTarget {
    fn target(self) -> Target {
        let identity = self.cert_file.map(|certificate| {
            let key = self.key_file.unwrap_or_else(|| certificate.clone());
            (certificate, key)
        });
        let trust =
            Trust { roots: self.ca_file, identity, http2: self.grpc, advice: "Name a file with --ca-file" };
        Target {
            wire: if self.grpc { Wire::Grpc } else { Wire::Http1 },
            host: self.host,
            port: self.port,
            trust: self.tls.then_some(trust),
        }
    }
}

impl BenchRequest {
    fn wanted(self) -> Wanted {
        Wanted { path: self.path, headers: self.headers, body: self.body.map(|body| body.to_vec()) }
    }
}

impl BenchPlan {
    fn plan(self) -> Result<Plan> {
        let wrong = || Error::invalid(format!("arrivals are fixed or poisson, got {:?}", self.arrivals));
        let spacing = Spacing::named(&self.arrivals).ok_or_else(wrong)?;
        let load = match self.rate {
            None => Load::Closed { concurrency: self.concurrency },
            Some(rate) => Load::Open { rate, spacing, most: self.max_outstanding },
        };
        let groups = self.groups.into_iter().map(|group| Group {
            weight: group.weight,
            requests: group.requests.into_iter().map(BenchRequest::wanted).collect(),
        });
        Ok(Plan {
            target: self.target.target(),
            groups: groups.collect(),
            load,
            threads: self.threads,
            connections: self.connections,
            warm_up: seconds(self.warm_up)?,
            duration: seconds(self.duration)?,
            count: self.count,
            timeout: seconds(self.timeout)?,
            seed: self.seed,
        })
    }
}

fn seconds(of: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(of).map_err(|_| Error::invalid(format!("{of} is no time in seconds")))
}

/// Times in nanoseconds, and how often they were seen.
#[pyclass(frozen, module = "servable._core")]
pub(super) struct BenchTimes(Histogram);

#[pymethods]
impl BenchTimes {
    #[getter]
    fn count(&self) -> u64 {
        self.0.count()
    }

    #[getter]
    fn max(&self) -> u64 {
        self.0.max()
    }

    #[getter]
    fn mean(&self) -> f64 {
        self.0.mean()
    }

    fn quantile(&self, quantile: f64) -> u64 {
        self.0.quantile(quantile)
    }

    fn steps(&self) -> Vec<(u64, u64)> {
        self.0.steps()
    }
}

/// What became of the requests of one group.
#[pyclass(frozen, get_all, module = "servable._core")]
pub(super) struct BenchSeen {
    times: Py<BenchTimes>,
    failures: Vec<(&'static str, u16, u64, String)>,
    sent: u64,
    received: u64,
}

/// What became of a load.
#[pyclass(frozen, get_all, module = "servable._core")]
pub(super) struct BenchOutcome {
    groups: Vec<Py<BenchSeen>>,
    lag: Py<BenchTimes>,
    opened: u64,
    seconds: f64,
    cpu_seconds: f64,
    busiest: f64,
}

/// A load that runs.
#[pyclass(frozen, module = "servable._core")]
pub(super) struct BenchRun(Run);

#[pymethods]
impl BenchRun {
    #[new]
    fn new(py: Python<'_>, plan: BenchPlan) -> PyResult<BenchRun> {
        let run = released(py, || Run::start(plan.plan()?).map_err(Error::invalid))?;
        Ok(BenchRun(run))
    }

    fn wait_measuring(&self, py: Python<'_>, limit: f64) -> PyResult<bool> {
        released(py, || Ok(self.0.wait_measuring(seconds(limit)?)))
    }

    fn wait(&self, py: Python<'_>, limit: f64) -> PyResult<bool> {
        released(py, || Ok(self.0.wait(seconds(limit)?)))
    }

    fn progress(&self, py: Python<'_>) -> (u64, u64, BenchTimes) {
        let (good, failed, times) = py.detach(|| self.0.progress());
        (good, failed, BenchTimes(times))
    }

    fn stop(&self) {
        self.0.stop();
    }

    fn outcome(&self, py: Python<'_>) -> PyResult<BenchOutcome> {
        let outcome = released(py, || self.0.outcome().map_err(Error::internal))?;
        told(py, outcome)
    }
}

fn told(py: Python<'_>, outcome: Outcome) -> PyResult<BenchOutcome> {
    let tally = outcome.tally;
    let groups = tally.groups.into_iter().map(|seen| seen_by(py, seen));
    Ok(BenchOutcome {
        groups: groups.collect::<PyResult<_>>()?,
        lag: Py::new(py, BenchTimes(tally.lag))?,
        opened: tally.opened,
        seconds: outcome.seconds,
        cpu_seconds: tally.cpu.as_secs_f64(),
        busiest: outcome.busiest,
    })
}

fn seen_by(py: Python<'_>, seen: Seen) -> PyResult<Py<BenchSeen>> {
    let failures = seen.failures.into_iter().map(|(first, count)| {
        let (kind, number) = first.kind.parts();
        (kind, number, count, first.text)
    });
    let failures = failures.collect();
    let times = Py::new(py, BenchTimes(seen.times))?;
    Py::new(py, BenchSeen { times, failures, sent: seen.sent, received: seen.received })
}

/// An answer, and if there is none how that came: kind, status or code, text.
type Asked = (Vec<u8>, Option<(&'static str, u16, String)>);

/// Sends one request; returns the body or message of its answer, or how it failed.
#[pyfunction]
pub(super) fn bench_ask(
    py: Python<'_>,
    target: BenchTarget,
    request: BenchRequest,
    timeout: f64,
) -> PyResult<Asked> {
    let timeout = seconds(timeout).map_err(|why| raised(py, &why))?;
    let asked = py.detach(|| bench::ask(&target.target(), &request.wanted(), timeout));
    Ok(match asked {
        Ok(body) => (body, None),
        Err(Failed { kind, text }) => {
            let (kind, number) = kind.parts();
            (Vec::new(), Some((kind, number, text)))
        }
    })
}

/// Returns a small picture: JPEG, 224 by 224.
#[pyfunction]
pub(super) fn bench_picture() -> &'static [u8] {
    include_bytes!("../methods/sample/pictures/224.jpg")
}
