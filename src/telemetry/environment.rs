//! OpenTelemetry's environment variables, read as its specification says: an empty value is as none, and one that cannot
//! be understood is told of and then as none. Values of a set of words may be in any case.

use http::{HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

/// The largest number that is taken: a year of milliseconds.
const MOST: u64 = 366 * 24 * 3600 * 1000;

/// The variables, and what is wrong with them.
pub(super) struct Environment<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    warnings: RefCell<Vec<String>>,
}

impl<'a> Environment<'a> {
    /// Reads what `variable` returns.
    pub(super) fn new(variable: &'a dyn Fn(&str) -> Option<String>) -> Environment<'a> {
        Environment { variable, warnings: RefCell::default() }
    }

    /// Returns what is wrong with those that were read.
    pub(super) fn warnings(self) -> Vec<String> {
        self.warnings.into_inner()
    }

    /// Notes what is wrong, and what is done instead.
    pub(super) fn warn(&self, name: &str, why: impl Display) {
        self.warnings.borrow_mut().push(format!("{name} {why}"));
    }

    /// Returns a value that is not empty.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let value = (self.variable)(name)?;
        Some(value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// Returns the first of `names` that is set, by the name that it has, if `read` understands it.
    pub(super) fn first<T>(
        &self,
        names: &[String],
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<(String, T)> {
        for name in names {
            match self.text(name).map(|value| read(&value)) {
                Some(Ok(value)) => return Some((name.clone(), value)),
                Some(Err(why)) => self.warn(name, format_args!("{why}. It is ignored")),
                None => {}
            }
        }
        None
    }

    /// Returns whether a variable is `true`.
    pub(super) fn is_true(&self, names: &[String]) -> bool {
        let read = |value: &str| match value.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(format!("is {value:?}, which is neither true nor false")),
        };
        self.first(names, read).is_some_and(|(_, is_true)| is_true)
    }

    /// Returns a time in milliseconds that is not zero; `otherwise` if there is none.
    pub(super) fn milliseconds(&self, names: &[String], otherwise: u64) -> Duration {
        Duration::from_millis(self.count(names, "milliseconds", otherwise))
    }

    /// Returns a pause in milliseconds; `otherwise` if there is none.
    pub(super) fn pause(&self, names: &[String], otherwise: u64) -> Duration {
        Duration::from_millis(self.number(names, 0, "milliseconds", otherwise))
    }

    /// Returns a limit in milliseconds; `otherwise` if there is none. Zero is no limit.
    pub(super) fn limit(&self, names: &[String], otherwise: u64) -> Duration {
        let limit = self.pause(names, otherwise);
        if limit.is_zero() { Duration::from_millis(MOST) } else { limit }
    }

    /// Returns a number above zero; `otherwise` if there is none.
    pub(super) fn count(&self, names: &[String], of: &str, otherwise: u64) -> u64 {
        self.number(names, 1, of, otherwise)
    }

    /// The same, of a number that is `least` at least, which is 0 or 1.
    fn number(&self, names: &[String], least: u64, of: &str, otherwise: u64) -> u64 {
        let above = if least == 0 { "" } else { " above zero" };
        let read = |value: &str| match value.parse() {
            Ok(number) if (least..=MOST).contains(&number) => Ok(number),
            _ => Err(format!("is {value:?}, which is no number of {of}{above}")),
        };
        self.first(names, read).map_or(otherwise, |(_, number)| number)
    }

    /// Returns the names of exporters in a list, as far as they are known; `None` if it is not set.
    pub(super) fn exporters(&self, name: &str) -> Option<bool> {
        let value = self.text(name)?;
        let mut sends = false;
        for exporter in value.split(',').map(str::trim) {
            match exporter.to_ascii_lowercase().as_str() {
                "otlp" => sends = true,
                "none" | "" => {}
                _ => self.warn(name, format_args!("names {exporter:?}. Only otlp and none are known here")),
            }
        }
        Some(sends)
    }
}

/// Reads `name=value,…` whose names and values may be percent-encoded.
pub(super) fn pairs(value: &str) -> Result<Vec<(String, String)>, String> {
    let members = value.split(',').map(str::trim).filter(|member| !member.is_empty());
    let pair = |(index, member): (usize, &str)| {
        // What it says may be a secret.
        let wrong = || format!("is no list of name=value: member {} is not", index + 1);
        let (name, value) = member.split_once('=').ok_or_else(wrong)?;
        let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8().map(Cow::into_owned).ok();
        let name = decoded(name).filter(|name| !name.is_empty()).ok_or_else(wrong)?;
        Ok((name, decoded(value).ok_or_else(wrong)?))
    };
    members.enumerate().map(pair).collect()
}

/// Reads headers to send.
pub(super) fn headers(value: &str) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let header = |(name, value): (String, String)| {
        let read = HeaderName::from_str(&name).ok().zip(HeaderValue::from_str(&value).ok());
        let (name, mut value) = read.ok_or_else(|| format!("has something that is no header: {name:?}"))?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    pairs(value)?.into_iter().map(header).collect()
}

/// Reads an address: `http://` or `https://`, a host, maybe a port and a path. An error does not quote it: it may contain
/// a secret.
pub(super) fn address(value: &str) -> Result<Uri, String> {
    let wrong = || {
        "is no address such as http://localhost:4318 (what names and authorizes somebody goes into \
         OTEL_EXPORTER_OTLP_HEADERS)"
            .to_owned()
    };
    let address: Uri = value.parse().map_err(|_| wrong())?;
    let host = address.host().is_some_and(|host| !host.is_empty());
    let scheme = matches!(address.scheme_str(), Some("http" | "https"));
    // Otherwise a name and a secret of it would be logged.
    let plain = !address.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if host && scheme && plain { Ok(address) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_of_pairs_are_read() {
        let two = [("a".to_owned(), "1 2".to_owned()), ("b-c".to_owned(), "x=y".to_owned())];
        assert_eq!(pairs(" a = 1%202 ,b-c=x=y,"), Ok(two.to_vec()));
        assert_eq!(pairs("a%2Cb%3Dc=d%3De"), Ok(vec![("a,b=c".to_owned(), "d=e".to_owned())]));
        for wrong in ["a", "a=1,b", "=1", "a=%ff", "%ff=a"] {
            assert!(pairs(wrong).is_err(), "{wrong}");
        }
        assert!(!pairs("authorization secret").unwrap_err().contains("secret"));
        assert_eq!(headers("X-Key=a%20b").unwrap()[0].0, "x-key");
        assert!(headers("a b=1").is_err() && headers("a=%0a").is_err());
    }

    #[test]
    fn addresses_have_a_scheme_and_a_host() {
        for good in ["http://localhost:4318", "https://a.b/c/d", "http://[::1]:1/"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in ["localhost:4318", "localhost", "/v1", "ftp://a", "http://", "a b", "http://me:secret@a/"]
        {
            assert!(address(bad).is_err_and(|why| !why.contains("secret") && !why.contains("  ")), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_not(text: String) {
            let _read = (pairs(&text), headers(&text), address(&text));
            let of = |_: &str| Some(text.clone());
            let environment = Environment::new(&of);
            let names = ["X".to_owned()];
            let known = environment.count(&names, "things", 7);
            prop_assert!(known >= 1);
            let _others = (environment.is_true(&names), environment.exporters("X"));
            prop_assert!(environment.warnings().len() <= 2 + text.split(',').count());
        }
    }
}
