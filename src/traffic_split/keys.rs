//! What a request's headers say, as far as the rules of any model ask for it.

use std::sync::Arc;

/// Longest value that counts, in bytes: a longer one is as if it were not there, and so is an empty one, which says nothing of
/// its client.
const LONGEST: usize = 1024;

/// The names of the headers that matter to any model, in lower case.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted(Box<[Box<str>]>);

impl Wanted {
    /// Returns what is wanted by any of `names`; `None` if that is nothing.
    pub fn of<'n>(names: impl Iterator<Item = &'n str>) -> Option<Arc<Wanted>> {
        let mut names: Vec<Box<str>> = names.map(Box::from).collect();
        names.sort_unstable();
        names.dedup();
        (!names.is_empty()).then(|| Arc::new(Wanted(names.into())))
    }
}

/// The values of one request.
#[derive(Debug, Default)]
pub struct Keys(Vec<(Box<str>, Box<[u8]>)>);

impl Keys {
    /// Reads the headers that are wanted; `header` returns the first value of one. `None` if there is none of them.
    pub fn read<'h>(wanted: &Wanted, header: impl Fn(&str) -> Option<&'h [u8]>) -> Option<Arc<Keys>> {
        let mut values = Vec::new();
        for name in &wanted.0 {
            if let Some(value) = header(name).filter(|value| (1..=LONGEST).contains(&value.len())) {
                values.push((name.clone(), value.into()));
            }
        }
        (!values.is_empty()).then(|| Arc::new(Keys(values)))
    }

    /// Returns the value of the header `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wanted_and_neither_empty_nor_too_long_is_read() {
        assert_eq!(Wanted::of([].into_iter()), None);
        let wanted = Wanted::of(["x-user", "x-canary", "x-user"].into_iter()).unwrap();
        let long = vec![b'a'; LONGEST + 1];
        let header = |name: &str| match name {
            "x-user" => Some(&b"me"[..]),
            "x-canary" => Some(&long[..]),
            _ => panic!("{name} is not wanted"),
        };
        let keys = Keys::read(&wanted, header).unwrap();
        assert_eq!((keys.get("x-user"), keys.get("x-canary")), (Some(&b"me"[..]), None));
        assert!(Keys::read(&wanted, |_| None).is_none());
        assert!(Keys::read(&wanted, |_| Some(b"")).is_none());
        assert!(Keys::read(&wanted, |_| Some(&long[..LONGEST])).is_some());
    }
}
