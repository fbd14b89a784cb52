//! Finds one scalar in a JSON text without building anything of the rest. It reads no further than the value it looks for,
//! never recurses, and so costs at most one pass however deep the text is nested.

use std::borrow::Cow;

/// One step of a path: a member's name, and an index when the name is a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    name: String,
    index: Option<usize>,
}

impl Step {
    pub(super) fn new(name: &str) -> Self {
        Step { name: name.to_owned(), index: name.parse().ok() }
    }
}

/// What lies at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// Nothing, or null.
    Missing,
    /// The text of a string, decoded.
    Text(Cow<'a, [u8]>),
    /// A number, as it is written.
    Number(&'a str),
    /// `true` or `false`.
    Bool(bool),
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The text is no JSON, as seen at this byte.
    NotJson(usize),
    /// An object or array lies at the path.
    Composite,
}

/// Looks `path` up in `json`. Of members with the same name the first counts.
pub(super) fn find<'a>(json: &'a [u8], path: &[Step]) -> Result<Found<'a>, Wrong> {
    let mut scan = Scan { json, at: 0 };
    for step in path {
        let inside = match scan.peek()? {
            b'{' => scan.member(&step.name)?,
            b'[' => match step.index {
                Some(index) => scan.element(index)?,
                None => return Ok(Found::Missing),
            },
            _ => {
                scan.scalar()?;
                false
            }
        };
        if !inside {
            return Ok(Found::Missing);
        }
    }
    scan.scalar()
}

struct Scan<'a> {
    json: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn wrong<T>(&self) -> Result<T, Wrong> {
        Err(Wrong::NotJson(self.at))
    }

    /// The next byte after white space, not consumed.
    fn peek(&mut self) -> Result<u8, Wrong> {
        while let Some(byte) = self.json.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Ok(*byte),
            }
        }
        self.wrong()
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Wrong> {
        if self.peek()? != wanted {
            return self.wrong();
        }
        self.at += 1;
        Ok(())
    }

    /// Enters the object here and stops before the value of `name`; false when the object has no such member.
    fn member(&mut self, name: &str) -> Result<bool, Wrong> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            return Ok(false);
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            if key.as_ref() == name.as_bytes() {
                return Ok(true);
            }
            self.skip()?;
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => return Ok(false),
                _ => return self.wrong(),
            }
        }
    }

    /// Enters the array here and stops before element `index`; false when it is shorter.
    fn element(&mut self, index: usize) -> Result<bool, Wrong> {
        self.expect(b'[')?;
        if self.peek()? == b']' {
            return Ok(false);
        }
        for _ in 0..index {
            self.skip()?;
            match self.peek()? {
                b',' => self.at += 1,
                b']' => return Ok(false),
                _ => return self.wrong(),
            }
        }
        Ok(true)
    }

    fn scalar(&mut self) -> Result<Found<'a>, Wrong> {
        match self.peek()? {
            b'"' => Ok(Found::Text(self.string()?)),
            b'{' | b'[' => Err(Wrong::Composite),
            _ => match self.word()? {
                "null" => Ok(Found::Missing),
                "true" => Ok(Found::Bool(true)),
                "false" => Ok(Found::Bool(false)),
                number => Ok(Found::Number(number)),
            },
        }
    }

    /// A number or one of JSON's three words.
    fn word(&mut self) -> Result<&'a str, Wrong> {
        let rest = &self.json[self.at..];
        let end = rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r')).unwrap_or(rest.len());
        let Ok(word) = std::str::from_utf8(&rest[..end]) else { return self.wrong() };
        let number = word.starts_with(|first: char| first == '-' || first.is_ascii_digit())
            && word.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E'));
        if !number && !matches!(word, "null" | "true" | "false") {
            return self.wrong();
        }
        self.at += end;
        Ok(word)
    }

    /// Consumes the string here, decoded.
    fn string(&mut self) -> Result<Cow<'a, [u8]>, Wrong> {
        let begin = self.skip_white_to_string()?;
        let escaped = self.skip_string()?;
        let text = &self.json[begin..self.at];
        if !escaped {
            return Ok(Cow::Borrowed(&text[1..text.len() - 1]));
        }
        match serde_json::from_slice::<String>(text) {
            Ok(decoded) => Ok(Cow::Owned(decoded.into_bytes())),
            Err(_) => Err(Wrong::NotJson(begin)),
        }
    }

    fn skip_white_to_string(&mut self) -> Result<usize, Wrong> {
        if self.peek()? != b'"' {
            return self.wrong();
        }
        Ok(self.at)
    }

    /// Consumes the string that begins here; whether it holds escapes.
    fn skip_string(&mut self) -> Result<bool, Wrong> {
        let mut escaped = false;
        self.at += 1;
        loop {
            let rest = self.json.get(self.at..).unwrap_or_default();
            let Some(next) = memchr::memchr2(b'"', b'\\', rest) else { return self.wrong() };
            self.at += next + 1;
            if rest[next] == b'"' {
                return Ok(escaped);
            }
            escaped = true;
            self.at += 1;
        }
    }

    /// Consumes any value.
    fn skip(&mut self) -> Result<(), Wrong> {
        match self.peek()? {
            b'"' => self.skip_string().map(|_| ()),
            b'{' | b'[' => self.skip_composite(),
            _ => self.word().map(|_| ()),
        }
    }

    /// Consumes an object or array by counting brackets outside of strings.
    fn skip_composite(&mut self) -> Result<(), Wrong> {
        let mut depth = 0_usize;
        while let Some(byte) = self.json.get(self.at) {
            match byte {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
        self.wrong()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look<'a>(json: &'a str, path: &str) -> Result<Found<'a>, Wrong> {
        let steps: Vec<Step> = path.split('.').map(Step::new).collect();
        find(json.as_bytes(), &steps)
    }

    #[test]
    fn scalars_are_found_in_objects_and_arrays_and_read_as_written() {
        let json = r#" { "x": {"deep": [1, {"a": "}]"}]}, "a" : {"b":"v", "n": -1.50e3, "t": true, "z": null, "l": [10, "two"]} } "#;
        assert_eq!(look(json, "a.b"), Ok(Found::Text(Cow::Borrowed(b"v"))));
        assert_eq!(look(json, "a.n"), Ok(Found::Number("-1.50e3")));
        assert_eq!(look(json, "a.t"), Ok(Found::Bool(true)));
        assert_eq!(look(json, "a.l.1"), Ok(Found::Text(Cow::Borrowed(b"two"))));
        assert_eq!(look(json, "x.deep.1.a"), Ok(Found::Text(Cow::Borrowed(b"}]"))));
        for missing in ["a.z", "a.l.2", "a.l.x", "a.b.c", "b"] {
            assert_eq!(look(json, missing), Ok(Found::Missing), "{missing}");
        }
        assert_eq!(look(json, "a"), Err(Wrong::Composite));
    }

    #[test]
    fn escapes_are_decoded_in_names_and_values() {
        assert_eq!(look(r#"{"\u0061\n":1,"k":"a\"b\\\u00e9"}"#, "k"), Ok(Found::Text(Cow::Owned("a\"b\\é".into()))));
        assert_eq!(look(r#"{"\u0061":7}"#, "a"), Ok(Found::Number("7")));
    }

    #[test]
    fn what_is_no_json_is_said_and_never_panics() {
        for broken in
            ["", "hello", "{", "{\"a\"", "{\"a\":", "{\"b\":1", "{\"b\":[1,2", "{\"a\":\"x", "{\"a\":\"x\\", "{\"a\":nul}", "{b:1}", "[1 2]"]
        {
            let path = if broken.starts_with('[') { "1" } else { "a" };
            assert!(matches!(look(broken, path), Err(Wrong::NotJson(_))), "{broken}");
        }
        assert_eq!(look("5", "a"), Ok(Found::Missing));
    }

    #[test]
    fn nesting_a_million_deep_costs_one_pass_and_no_stack() {
        let json = format!("{{\"x\":{}{},\"a\":1}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(look(&json, "a"), Ok(Found::Number("1")));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(json: Vec<u8>, path in "[a-c0-2](\\.[a-c0-2]){0,3}") {
            let steps: Vec<Step> = path.split('.').map(Step::new).collect();
            let _ = find(&json, &steps);
        }

        #[test]
        fn every_member_of_a_document_is_found(keys in proptest::collection::btree_map(".{1,8}", ".{0,8}", 1..6)) {
            let json = serde_json::to_vec(&keys).unwrap();
            for (key, value) in &keys {
                let step = Step { name: key.clone(), index: None };
                let found = find(&json, std::slice::from_ref(&step));
                assert_eq!(found, Ok(Found::Text(Cow::Owned(value.clone().into_bytes()))));
            }
        }
    }
}
