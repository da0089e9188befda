//! The file's lines: a name, the hash of its secret, then `scopes=` and `models=`, and limits if there are any.
//!
//! ```text
//! # who        hash                  what
//! trainer      sha256:SALT:HASH      scopes=predict,read models=resnet*,half_plus_two
//! dashboard    sha256:SALT:HASH      scopes=read models=*
//! web          sha256:SALT:HASH      scopes=predict models=* rate=100/s burst=200 in_flight=20
//! operator     sha256:SALT:HASH      scopes=manage models=*
//! ```
//!
//! An error tells a line's number and never quotes what may be a token that was put in the wrong place.

use super::limits::{Limits, Rate, number};
use super::need::{Grant, Scopes};
use super::pattern::Models;
use super::token::{Hashed, NOBODY, is_name};
use std::collections::HashMap;
use std::sync::Arc;

/// A token as its line describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: Arc<str>,
    /// The number of its line.
    pub number: usize,
    /// What the line says after the hash.
    pub settings: Vec<(&'static str, String)>,
    pub(super) hashed: Hashed,
    pub(super) grant: Grant,
    pub(super) limits: Limits,
}

impl Entry {
    /// Returns the entry of somebody called `name` who may do everything. No token is its own.
    pub(super) fn of_administrator(name: Arc<str>) -> Entry {
        let grant = Grant { scopes: Scopes::ALL, models: Models::all() };
        let (hashed, limits) = (NOBODY.clone(), Limits::default());
        Entry { name, number: 0, settings: Vec::new(), hashed, grant, limits }
    }
}

/// Reads the lines of a file. Empty ones, and those that begin with `#`, say nothing.
pub fn parse(text: &str) -> Result<Vec<Entry>, String> {
    if text.trim().is_empty() {
        // A file of comments is whole; an empty one is one that is being written.
        return Err(
            "the file is empty: expected lines of tokens, or at least a comment if there is to be none"
                .to_owned(),
        );
    }
    let mut entries: Vec<Entry> = Vec::new();
    let mut lines: HashMap<Arc<str>, usize> = HashMap::new();
    for (line, number) in text.lines().zip(1..) {
        let Some(entry) = entry(line, number).map_err(|why| format!("line {number}: {why}"))? else {
            continue;
        };
        if let Some(first) = lines.insert(entry.name.clone(), number) {
            return Err(format!("line {number}: the name {} is that of line {first} too", entry.name));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Reads a line; `None` if it says nothing.
fn entry(line: &str, number: usize) -> Result<Option<Entry>, String> {
    let mut words = line.split_whitespace();
    let Some(name) = words.next().filter(|word| !word.starts_with('#')) else { return Ok(None) };
    if !is_name(name) {
        return Err("expected a name first: up to 64 letters, digits, - and _, the first a letter or a digit. (A token \
                    itself has no place here, only its hash)"
            .to_owned());
    }
    let hashed = words.next().and_then(Hashed::read);
    let hashed = hashed.ok_or(
        "expected sha256:SALT:HASH after the name, with a salt of 12 characters and 64 hexadecimal digits, as \
         'servable token new' writes it",
    )?;
    let settings = settings(words)?;
    let of = |key| settings.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str());
    let scopes = of("scopes").and_then(Scopes::read);
    let scopes = scopes.ok_or("expected scopes= with some of predict, read and manage, between commas")?;
    let models = of("models").and_then(Models::read).ok_or(
        "expected models= with names of models between commas, in which * is any text: models=* for all of them. (%20, \
         %2C, %2A and %25 are a space, a comma, a star and a % in a name)",
    )?;
    if scopes.manage() && !models.every {
        return Err(
            "manage concerns the whole server and needs models=*: make two tokens of this one".to_owned()
        );
    }
    let limits = limits(of("rate"), of("burst"), of("in_flight"))?;
    let grant = Grant { scopes, models };
    Ok(Some(Entry { name: name.into(), number, settings, hashed, grant, limits }))
}

/// Names of the settings of a line.
const KEYS: [&str; 5] = ["scopes", "models", "rate", "burst", "in_flight"];

/// Reads `KEY=VALUE`s.
fn settings<'a>(words: impl Iterator<Item = &'a str>) -> Result<Vec<(&'static str, String)>, String> {
    let mut settings: Vec<(&str, String)> = Vec::new();
    // The name and the hash are the first two.
    for (word, at) in words.zip(3..) {
        let known = word.split_once('=').and_then(|(key, value)| {
            KEYS.into_iter().find(|known| *known == key).map(|known| (known, value))
        });
        let Some((key, value)) = known else {
            return Err(format!(
                "word {at} is none of scopes=, models=, rate=, burst= and in_flight= (no spaces around = and commas; a \
                 comment has a line of its own)"
            ));
        };
        if settings.iter().any(|(before, _)| *before == key) {
            return Err(format!("{key}= is there twice"));
        }
        settings.push((key, value.to_owned()));
    }
    Ok(settings)
}

fn limits(rate: Option<&str>, burst: Option<&str>, in_flight: Option<&str>) -> Result<Limits, String> {
    let whole = |key, text: &str| {
        number(text).ok_or_else(|| format!("{key}= expects a whole number from 1 to 1000000"))
    };
    let burst = burst.map(|text| whole("burst", text)).transpose()?;
    let rate = rate.map(|text| Rate::read(text, burst).ok_or("rate= expects a number of requests in a second, a minute or an hour, from 1 to 1000000, such as 100/s, 600/m or 5/h"));
    let rate = rate.transpose()?;
    if rate.is_none() && burst.is_some() {
        return Err("burst= needs a rate=".to_owned());
    }
    let in_flight = in_flight.map(|text| whole("in_flight", text)).transpose()?;
    Ok(Limits { rate, in_flight: in_flight.and_then(|most| usize::try_from(most).ok()) })
}

#[cfg(test)]
mod tests {
    use super::super::token::tests::made;
    use super::*;
    use proptest::prelude::*;

    fn line(rest: &str) -> String {
        format!("name {} {rest}", made("name", 'x').1)
    }

    #[test]
    fn lines_are_read() {
        let hash = made("a", 'x').1;
        let text = format!(
            "# comment\r\n\n  \t\n# a {hash}\na {hash}\tscopes=predict,read  models=m*,n rate=10/s burst=5 in_flight=2\r\n\
             b-2 {hash} models=* scopes=manage"
        );
        let entries = parse(&text).unwrap();
        let told: Vec<_> = entries.iter().map(|one| (&*one.name, one.number, one.settings.len())).collect();
        assert_eq!(told, [("a", 5, 5), ("b-2", 6, 2)]);
        assert_eq!(entries[0].limits.in_flight, Some(2));
        assert!(entries[0].limits.rate.is_some() && entries[1].limits == Limits::default());
        assert!(entries[1].grant.scopes.manage() && !entries[0].grant.scopes.manage());
        assert_eq!(entries[0].settings[1], ("models", "m*,n".to_owned()));
        assert!(parse("# nobody").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_said_with_the_line() {
        let good = line("scopes=read models=*");
        for (bad, said) in [
            (String::new(), "the file is empty"),
            (" \n\n".to_owned(), "the file is empty"),
            (line("scopes=read models=* ").replacen("name", "na.me", 1), "line 1: expected a name first"),
            ("a".to_owned(), "line 1: expected sha256:SALT:HASH"),
            ("a scopes=read models=*".to_owned(), "line 1: expected sha256:SALT:HASH"),
            (line(""), "expected scopes="),
            (line("models=*"), "expected scopes="),
            (line("scopes= models=*"), "expected scopes="),
            (line("scopes=write models=*"), "expected scopes="),
            (line("scopes=read,read models=*"), "expected scopes="),
            (line("scopes=read"), "expected models="),
            (line("scopes=read models=a,"), "expected models="),
            (line("scopes=read models=* color=red"), "word 5 is none of"),
            (line("scopes=read models=* # comment"), "word 5 is none of"),
            (line("scopes=read models=a, b"), "word 5 is none of"),
            (line("scopes=read models=a models=b"), "models= is there twice"),
            (line("scopes=predict,manage models=m*"), "manage concerns the whole server"),
            (line("scopes=read models=* rate=fast"), "rate= expects"),
            (line("scopes=read models=* rate=1/s burst=0"), "burst= expects"),
            (line("scopes=read models=* burst=2"), "burst= needs a rate="),
            (line("scopes=read models=* in_flight=-1"), "in_flight= expects"),
            (format!("{good}\n\n{good}"), "line 3: the name name is that of line 1 too"),
        ] {
            let why = parse(&bad).unwrap_err();
            assert!(why.contains(said), "{bad}: {why}");
        }
    }

    #[test]
    fn a_token_in_the_wrong_place_is_not_told() {
        let (token, hash) = made("me", 'Q');
        for text in [
            token.clone(),
            format!("me {token}"),
            format!("me {hash} {token}"),
            format!("me {hash} scopes={token} models=*"),
            format!("me {hash} scopes=read models={token},"),
            format!("me {hash} scopes=read models=* rate={token}"),
            format!("me {hash} scopes=read models=* in_flight={token}"),
            format!("me {hash} scopes=read models=* {token}=1"),
        ] {
            let why = parse(&text).unwrap_err();
            assert!(!why.contains("QQQ") && why.starts_with("line 1: "), "{why}");
        }
    }

    /// A half of a line is not taken for a whole one that allows more.
    #[test]
    fn a_line_that_is_cut_allows_no_more() {
        let whole = line("scopes=predict models=half*");
        for end in 1..whole.len() {
            if let Ok(entries) = parse(&whole[..end]) {
                assert!(
                    entries.iter().all(|one| !one.grant.models.every && !one.grant.scopes.manage()),
                    "{}",
                    &whole[..end]
                );
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "[ -~\n]{0,200}", bytes: String) {
            let _either = (parse(&text), parse(&bytes), parse(&line(&text)));
        }

        #[test]
        fn what_is_written_is_read(
            names in prop::collection::btree_set("[a-zA-Z0-9][a-zA-Z0-9_-]{0,20}", 1..20),
            scopes in prop::sample::subsequence(vec!["predict", "read"], 1..=2),
            rate in prop::option::of(1u64..1000),
            in_flight in prop::option::of(1usize..1000),
        ) {
            let hash = made("a", 'x').1;
            let mut rest = format!("scopes={} models=m*", scopes.join(","));
            rate.iter().for_each(|rate| rest += &format!(" rate={rate}/s"));
            in_flight.iter().for_each(|most| rest += &format!(" in_flight={most}"));
            let text: String = names.iter().map(|name| format!("{name} {hash} {rest}\n")).collect();
            let entries = parse(&text).unwrap();
            prop_assert!(entries.iter().map(|one| &*one.name).eq(names.iter()));
            for one in entries {
                prop_assert_eq!((one.limits.in_flight, one.limits.rate.is_some()), (in_flight, rate.is_some()));
                prop_assert!(one.grant.models.have("m1") && !one.grant.models.have("n"));
            }
        }
    }
}
