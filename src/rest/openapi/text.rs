//! JSON being written: objects and lists without white space, up to a longest text.

use crate::json::writer::Writer;

/// A text, to which nothing more is written once it is too long.
pub(super) struct Text {
    out: Writer,
    longest: usize,
    is_over: bool,
}

impl Text {
    /// Begins a text of `longest` bytes at most. It takes a few times as many where strings have to be escaped.
    pub(super) fn new(longest: usize) -> Text {
        Text { out: Writer::with_room(longest.min(1 << 12)), longest, is_over: false }
    }

    /// Returns the number of bytes so far.
    pub(super) fn len(&self) -> usize {
        self.out.written().len()
    }

    /// Returns the text; `None` if it is too long.
    pub(super) fn finish(self) -> Option<Vec<u8>> {
        (!self.is_over && self.len() <= self.longest).then(|| self.out.finish())
    }

    /// Writes an object.
    pub(super) fn object(&mut self, members: impl FnOnce(&mut Object<'_>)) {
        self.raw(b"{");
        members(&mut Object { text: self, is_empty: true });
        self.raw(b"}");
    }

    /// Writes a list.
    pub(super) fn list(&mut self, items: impl FnOnce(&mut List<'_>)) {
        self.raw(b"[");
        items(&mut List { text: self, is_empty: true });
        self.raw(b"]");
    }

    fn string(&mut self, value: &str) {
        if self.fits(value.len()) {
            self.out.string(value.as_bytes());
        }
    }

    fn raw(&mut self, json: &[u8]) {
        if self.fits(json.len()) {
            self.out.raw(json);
        }
    }

    fn fits(&mut self, bytes: usize) -> bool {
        self.is_over |= self.len().saturating_add(bytes) > self.longest;
        !self.is_over
    }
}

/// An object whose members are being written, each name once.
pub(super) struct Object<'t> {
    text: &'t mut Text,
    is_empty: bool,
}

impl Object<'_> {
    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.is_empty) {
            self.text.raw(b",");
        }
        self.text.string(name);
        self.text.raw(b":");
    }

    /// Writes a member that is a string.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.text.string(value);
    }

    /// Writes a member that is `true` or `false`.
    pub(super) fn flag(&mut self, name: &str, value: bool) {
        self.raw(name, if value { b"true" } else { b"false" });
    }

    /// Writes a member that is a whole number.
    pub(super) fn integer<I: itoa::Integer>(&mut self, name: &str, value: I) {
        self.raw(name, itoa::Buffer::new().format(value).as_bytes());
    }

    /// Writes a member that is JSON already.
    pub(super) fn raw(&mut self, name: &str, json: &[u8]) {
        self.name(name);
        self.text.raw(json);
    }

    /// Writes the members of an object that is JSON already.
    pub(super) fn members(&mut self, object: &[u8]) {
        if let [b'{', members @ .., b'}'] = object
            && !members.is_empty()
        {
            if !std::mem::take(&mut self.is_empty) {
                self.text.raw(b",");
            }
            self.text.raw(members);
        }
    }

    /// Writes a member that is an object.
    pub(super) fn object(&mut self, name: &str, members: impl FnOnce(&mut Object<'_>)) {
        self.name(name);
        self.text.object(members);
    }

    /// Writes a member that is a list.
    pub(super) fn list(&mut self, name: &str, items: impl FnOnce(&mut List<'_>)) {
        self.name(name);
        self.text.list(items);
    }

    /// Writes a member that is a list of strings.
    pub(super) fn texts<S: AsRef<str>>(&mut self, name: &str, values: impl IntoIterator<Item = S>) {
        self.list(name, |list| values.into_iter().for_each(|value| list.text(value.as_ref())));
    }

    /// Writes a reference to the component `name` of this `kind`: the only member of its object.
    pub(super) fn reference(&mut self, kind: &str, name: &str) {
        self.text("$ref", &format!("#/components/{kind}/{name}"));
    }

    /// Writes a reference to the schema `name`.
    pub(super) fn schema(&mut self, name: &str) {
        self.reference("schemas", name);
    }
}

/// A list whose elements are being written.
pub(super) struct List<'t> {
    text: &'t mut Text,
    is_empty: bool,
}

impl List<'_> {
    fn next(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.text.raw(b",");
        }
    }

    /// Writes an element that is a string.
    pub(super) fn text(&mut self, value: &str) {
        self.next();
        self.text.string(value);
    }

    /// Writes an element that is JSON already.
    pub(super) fn raw(&mut self, json: &[u8]) {
        self.next();
        self.text.raw(json);
    }

    /// Writes an element that is an object.
    pub(super) fn object(&mut self, members: impl FnOnce(&mut Object<'_>)) {
        self.next();
        self.text.object(members);
    }

    /// Writes an element that is a list.
    pub(super) fn list(&mut self, items: impl FnOnce(&mut List<'_>)) {
        self.next();
        self.text.list(items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(longest: usize) -> Option<String> {
        let mut text = Text::new(longest);
        text.object(|object| {
            object.text("a\n", "\"é");
            object.integer("b", u64::MAX);
            object.members(b"{}");
            object.members(br#"{"c":false}"#);
            object.texts("d", ["x", "y"]);
            object.list("e", |list| {
                list.raw(b"1.0");
                list.object(|object| object.schema("S"));
                list.list(|_| {});
            });
            object.flag("f", true);
        });
        text.finish().map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn what_is_written_is_json() {
        let expected = concat!(
            r#"{"a\n":"\"é","b":18446744073709551615,"c":false,"d":["x","y"],"#,
            r##""e":[1.0,{"$ref":"#/components/schemas/S"},[]],"f":true}"##
        );
        assert_eq!(written(1000).as_deref(), Some(expected));
        serde_json::from_str::<serde_json::Value>(expected).unwrap();
    }

    #[test]
    fn what_is_too_long_is_nothing() {
        let length = written(1000).unwrap().len();
        assert!(written(length).is_some());
        for longest in 0..length {
            assert_eq!(written(longest), None, "{longest}");
        }
    }

    #[test]
    fn a_long_name_is_not_copied_in_vain() {
        let mut text = Text::new(100);
        text.object(|object| (0..1000).for_each(|_| object.text(&"n".repeat(10_000), "")));
        assert!(text.len() <= 100);
        assert_eq!(text.finish(), None);
    }
}
