//! Standard error, taken over: what libraries write to it by themselves comes line by line to the log, which alone
//! writes to where it led before.
//!
//! TensorFlow's C API has no way to take its log. So descriptor 2 becomes a pipe that a thread reads. What is in it when
//! the process crashes, such as the reason of an abort, is written before it ends.

use super::stderr::LOG;
use std::ffi::c_int;
use std::io::{self, ErrorKind, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::time::{Duration, Instant};

const STDERR: c_int = libc::STDERR_FILENO;
/// Longest line; a longer one is cut into several.
const LONGEST: usize = 64 << 10;
/// How long the thread may take for what is left, at the end and at a crash.
const LAST: Duration = Duration::from_millis(300);
/// The signals of a crash.
const CRASHES: [c_int; 5] = [libc::SIGABRT, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];

/// The end of the pipe that is read; below 0 if there is none.
static READ: AtomicI32 = AtomicI32::new(-1);
/// True while the thread has lines that are not logged yet.
static BUSY: AtomicBool = AtomicBool::new(false);
/// True once the thread has ended.
static ENDED: AtomicBool = AtomicBool::new(false);

/// Takes standard error over: `on_line` gets each line, on a thread of its own. Only the first call has an effect.
pub(crate) fn take_over(on_line: impl Fn(&str) + Send + 'static) -> io::Result<()> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, SeqCst) {
        return Ok(());
    }
    let before = io::stderr().as_fd().try_clone_to_owned()?;
    let (mut reader, writer) = io::pipe()?;
    READ.store(reader.as_raw_fd(), SeqCst);
    // It stays open until the process ends.
    LOG.store(before.into_raw_fd(), SeqCst);
    std::thread::Builder::new().name("servable-stderr".to_owned()).spawn(move || {
        read_lines(&mut reader, on_line);
        READ.store(-1, SeqCst);
        drop(reader);
        ENDED.store(true, SeqCst);
    })?;
    lead_to(writer.as_raw_fd())?;
    CRASHES.iter().for_each(|signal| handle(*signal));
    Ok(())
}

/// Returns the descriptor that the log is written to.
pub(crate) fn log_descriptor() -> c_int {
    LOG.load(SeqCst)
}

/// Gives standard error back, once what was written to it is logged.
pub(crate) fn give_back() {
    let log = LOG.load(SeqCst);
    if log == STDERR || lead_to(log).is_err() {
        return;
    }
    // The thread ends now, unless another process has the pipe.
    let give_up = Instant::now() + LAST;
    while !ENDED.load(SeqCst) && Instant::now() < give_up {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Makes descriptor 2 another name of `descriptor`.
#[allow(unsafe_code)]
fn lead_to(descriptor: c_int) -> io::Result<()> {
    // SAFETY: takes two numbers; that of an open file, and one that every process has.
    let result = unsafe { libc::dup2(descriptor, STDERR) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn read_lines(pipe: &mut PipeReader, on_line: impl Fn(&str)) {
    let mut pending = Vec::new();
    let mut chunk = [0; 8 << 10];
    let tell = |line: &[u8]| {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end();
        if !line.is_empty() {
            on_line(line);
        }
    };
    loop {
        let read = match pipe.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => read,
            Err(why) if why.kind() == ErrorKind::Interrupted => 0,
            // With `WouldBlock`, the process is crashing, and reads the rest itself.
            Err(_) => break,
        };
        BUSY.store(true, SeqCst);
        pending.extend_from_slice(&chunk[..read]);
        while let Some(end) = memchr::memchr(b'\n', &pending) {
            tell(&pending[..end]);
            pending.drain(..=end);
        }
        if pending.len() >= LONGEST {
            tell(&pending);
            pending.clear();
        }
        BUSY.store(false, SeqCst);
    }
    tell(&pending);
}

/// Has [`on_crash`] called for a signal that nobody else handles.
#[allow(unsafe_code)]
fn handle(signal: c_int) {
    let handler: extern "C" fn(c_int) = on_crash;
    // SAFETY: `sigaction` is a plain struct for which zeros are valid; both calls get pointers to live ones, and the
    // handler does only what a signal handler may.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(signal, std::ptr::null(), &mut now) != 0 || now.sa_sigaction != libc::SIG_DFL {
            return;
        }
        now.sa_sigaction = handler as libc::sighandler_t;
        // Once; and on the stack that threads have for it, as their own may be used up.
        now.sa_flags = libc::SA_RESETHAND | libc::SA_ONSTACK;
        libc::sigaction(signal, &now, std::ptr::null_mut());
    }
}

/// Lets the thread log what is in the pipe, writes what it leaves, and ends the process as the signal would have.
#[allow(unsafe_code)]
extern "C" fn on_crash(signal: c_int) {
    const STEP_MILLIS: c_int = 5;
    let (pipe, log) = (READ.load(SeqCst), LOG.load(SeqCst));
    let mut left = if pipe < 0 { 0 } else { LAST.as_millis() as c_int };
    let mut calm = 0;
    // SAFETY: system calls that take numbers and pointers to live variables, and may be made in a signal handler. No
    // memory is allocated and no lock is taken.
    unsafe {
        // Twice calm: between its read and its first line the thread seems to have nothing.
        while left > 0 && calm < 2 {
            let mut waiting: c_int = 0;
            let known = libc::ioctl(pipe, libc::FIONREAD, &mut waiting) == 0;
            calm = if known && waiting == 0 && !BUSY.load(SeqCst) { calm + 1 } else { 0 };
            libc::poll(std::ptr::null_mut(), 0, STEP_MILLIS);
            left -= STEP_MILLIS;
        }
        libc::fcntl(pipe, libc::F_SETFL, libc::O_NONBLOCK);
        let mut chunk = [0_u8; 4096];
        loop {
            let read = libc::read(pipe, chunk.as_mut_ptr().cast(), chunk.len());
            if read <= 0 {
                break;
            }
            libc::write(log, chunk.as_ptr().cast(), read as usize);
        }
        libc::raise(signal);
    }
}
