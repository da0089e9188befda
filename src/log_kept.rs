//! The last lines of the core's log, kept for whoever asks for them, where they are not to be written anywhere.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most lines that are kept, and most bytes of each.
const MOST: usize = 1000;
const LONGEST: usize = 4 << 10;

static LINES: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Returns the lines, the oldest first, without their ends.
pub(crate) fn lines() -> Vec<String> {
    locked().iter().cloned().collect()
}

/// Keeps each line that is written to it, which is written at once.
pub(crate) struct Kept;

impl Write for Kept {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let shown = &line.trim_ascii_end()[..line.trim_ascii_end().len().min(LONGEST)];
        let mut lines = locked();
        if lines.len() == MOST {
            lines.pop_front();
        }
        lines.push_back(String::from_utf8_lossy(shown).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn locked() -> MutexGuard<'static, VecDeque<String>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_none_is_endless() {
        for line in 0..=MOST {
            let _written = Kept.write(format!("{line}\n").as_bytes()).unwrap();
        }
        let _written = Kept.write(&[b'x'; 2 * LONGEST]).unwrap();
        let kept = lines();
        assert_eq!((kept.len(), &*kept[0], kept[MOST - 1].len()), (MOST, "2", LONGEST));
    }
}
