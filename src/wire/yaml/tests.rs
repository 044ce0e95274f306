use super::*;
use crate::wire::frame::LARGEST;
use serde_json::json;
use std::rc::Rc;

#[track_caller]
fn check(text: &str, expect: &[Value]) {
    assert_eq!(documents(text).as_deref(), Ok(expect), "{text}");
}

#[track_caller]
fn check_error(text: &str, expect: &str) {
    let error = documents(text).expect_err(text);
    assert_eq!(error.to_string(), expect, "{text}");
}

/// What kubectl 1.20 makes of each, as JSON; nothing where it refuses the text. The parser is that of every Kubernetes since.
const SCALARS: &[(&str, &str)] = &[
    ("yes", "true"),
    ("Yes", "true"),
    ("YES", "true"),
    ("yEs", "\"yEs\""),
    ("no", "false"),
    ("No", "false"),
    ("NO", "false"),
    ("on", "true"),
    ("On", "true"),
    ("ON", "true"),
    ("off", "false"),
    ("Off", "false"),
    ("OFF", "false"),
    ("y", "true"),
    ("Y", "true"),
    ("n", "false"),
    ("N", "false"),
    ("true", "true"),
    ("True", "true"),
    ("TRUE", "true"),
    ("tRUE", "\"tRUE\""),
    ("false", "false"),
    ("False", "false"),
    ("FALSE", "false"),
    ("null", "null"),
    ("Null", "null"),
    ("NULL", "null"),
    ("~", "null"),
    ("nUll", "\"nUll\""),
    ("0120", "80"),
    ("0o120", "80"),
    ("0O120", "80"),
    ("0x50", "80"),
    ("0X50", "80"),
    ("0x5_0", "80"),
    ("8_080", "8080"),
    ("_8080", "\"_8080\""),
    ("8080_", "8080"),
    ("8__080", "8080"),
    ("8080.0", "8080"),
    ("8080.", "8080"),
    ("8e3", "8000"),
    ("8E3", "8000"),
    ("8e+3", "8000"),
    ("8e+03", "8000"),
    ("1e+04", "10000"),
    ("1e4", "10000"),
    ("1e-1", "0.1"),
    ("10e-1", "1"),
    ("8_0e2", "8000"),
    ("08", "8"),
    ("09", "9"),
    ("0089", "89"),
    ("0", "0"),
    ("00", "0"),
    ("0_7", "7"),
    ("07.5", "7.5"),
    ("+80", "80"),
    ("-80", "-80"),
    ("+0120", "80"),
    ("-0120", "-80"),
    ("-0x50", "-80"),
    ("0b1010", "10"),
    ("0B1010", "10"),
    ("-0b11", "-3"),
    ("0b", "\"0b\""),
    ("0x", "\"0x\""),
    ("0o", "\"0o\""),
    ("1:20", "\"1:20\""),
    ("1:20:30", "\"1:20:30\""),
    ("1:20.5", "\"1:20.5\""),
    (".5", "0.5"),
    (".5e1", "5"),
    ("5.", "5"),
    (".", "\".\""),
    ("..", "\"..\""),
    ("+.5", "0.5"),
    ("-.5", "-0.5"),
    ("._5", "\"._5\""),
    ("+1_0.5", "10.5"),
    ("1_0.5", "10.5"),
    ("1.5e3", "1500"),
    ("1e400", "\"1e400\""),
    ("2026-01-01", "\"2026-01-01\""),
    ("2026-01-01T00:00:00Z", "\"2026-01-01T00:00:00Z\""),
    ("12e03", "12000"),
    ("0e0", "0"),
    ("1.0e+1", "10"),
    ("1,000", "\"1,000\""),
    ("80a", "\"80a\""),
    ("1e", "\"1e\""),
    ("1e+", "\"1e+\""),
    ("0x1p4", "\"0x1p4\""),
    ("inf", "\"inf\""),
    (".inf", ""),
    ("-.inf", ""),
    ("+.inf", ""),
    (".nan", ""),
    ("nan", "\"nan\""),
    ("Infinity", "\"Infinity\""),
    ("30s", "\"30s\""),
    ("=", "\"=\""),
    ("!!str 5", "\"5\""),
    ("0.0", "0"),
    ("-0", "0"),
    ("-0.0", "0"),
    ("+", "\"+\""),
    ("0xg", "\"0xg\""),
    ("0o8", "\"0o8\""),
    ("0o1_0", "8"),
    ("1__", "1"),
    ("0__", "0"),
    ("1_", "1"),
    ("0_", "0"),
    ("0x_50", "80"),
    ("0_x50", "80"),
    ("6.5e1", "65"),
    ("1_000.5e+0_1", "10005"),
    ("08.5", "8.5"),
    ("099e1", "990"),
    ("!!int \"80\"", "80"),
    ("!!int 0120", "80"),
    ("!!str yes", "\"yes\""),
    ("!!bool yes", "true"),
    ("!!bool \"no\"", "false"),
    ("!!float 80", "80"),
    ("!!float \"8e1\"", "80"),
    ("! 80", "\"80\""),
    ("\"yes\"", "\"yes\""),
    ("'80'", "\"80\""),
    ("!!int \"8080.0\"", ""),
    ("!!null x", ""),
    ("!!int 80.0", ""),
    ("!foo 80", "\"80\""),
    ("!foo yes", "\"yes\""),
    ("!!bool 1", ""),
    ("!!int \"0x50\"", "80"),
    ("!!str 0x50", "\"0x50\""),
    ("!!int \"\"", ""),
    ("!!bool \"\"", ""),
    ("!!null \"\"", "null"),
    ("!!float .inf", ""),
    ("!!str", "\"\""),
    ("!!float 1_0", "10"),
];

#[test]
fn scalars_are_what_kubectl_makes_of_them() {
    for (scalar, expect) in SCALARS {
        let found = documents(&format!("x: {scalar}\n"));
        let found = found.map(|documents| documents[0]["x"].to_string());
        assert_eq!(found.unwrap_or_default(), *expect, "{scalar}");
    }
    // Beyond what any field can hold, digits may differ.
    check("a: 18446744073709551615\n", &[json!({"a": u64::MAX})]);
    check("a: -9223372036854775808\n", &[json!({"a": i64::MIN})]);
    check(
        "0x10: a\n1.5: c\n80: d\non: e\n",
        &[json!({"16": "a", "1.5": "c", "80": "d", "true": "e"})],
    );
    check(
        "a: |\n  one\n  two\nb: >-\n  one\n  two\n",
        &[json!({"a": "one\ntwo\n", "b": "one two"})],
    );
}

/// As kubectl reads them; where it refuses one, so do we.
#[test]
fn a_tab_may_stand_behind_a_colon() {
    let good = [
        ("kind:\tService\n", json!({"kind": "Service"})),
        (
            "kind:  \tService\nx:\t{y1: 2}\n",
            json!({"kind": "Service", "x": {"y1": 2}}),
        ),
        (
            "kind: Service\t\nx: 1\t# c\n",
            json!({"kind": "Service", "x": 1}),
        ),
        ("a:\t\n  b: 1\n", json!({"a": {"b": 1}})),
        ("{a:\tb,\tc: d}\n", json!({"a": "b", "c": "d"})),
        (
            "a:\n- b:\t80\n  c:\t\"x\"\n",
            json!({"a": [{"b": 80, "c": "x"}]}),
        ),
        ("\"kind\":\tService\n", json!({"kind": "Service"})),
        ("'kind':\t-1\n", json!({"kind": -1})),
        (
            "a: 'b:\tc'\nd: \"e:\tf\"\n",
            json!({"a": "b:\tc", "d": "e:\tf"}),
        ),
        ("a: 'b\tc'\n", json!({"a": "b\tc"})),
    ];
    for (text, expect) in good {
        check(text, &[expect]);
    }
    for text in ["a:\n\tb: c\n", "a: b\n\tc\n", "kind:\tService:\tx\n"] {
        assert!(documents(text).is_err(), "{text:?}");
    }
}

#[test]
fn documents_are_split_and_empty_ones_left_out() {
    check("", &[]);
    check("---\n---\n# nothing\n", &[]);
    check(
        "---\na: 1\n---\n---\nb: 2\n...\n",
        &[json!({"a": 1}), json!({"b": 2})],
    );
    check(
        "{\"a\": 1}\n{\"b\":\t2}",
        &[json!({"a": 1}), json!({"b": 2})],
    );
    check("{a: 1, b: [x, z]}", &[json!({"a": 1, "b": ["x", "z"]})]);
    check("\u{feff}a: 1", &[json!({"a": 1})]);
    // Files that were put one behind the other.
    let both = [json!({"a": 1}), json!({"b": 2})];
    check("\u{feff}a: 1\n---\n\u{feff}b: 2\n", &both);
    check("a: 1\n---\r\n\u{feff}b: 2\r\n", &both);
    check("\u{feff}---\na: 1\n\u{feff}---\nb: 2\n", &both);
    check("a: 1\n...\n\u{feff}b: 2\n", &both);
    check("a: \"x\u{feff}\"\n", &[json!({"a": "x\u{feff}"})]);
}

#[test]
fn aliases_and_merge_keys() {
    check(
        "base: &b {x: 1, z: 2}\nuse:\n  <<: *b\n  z: 3\nagain: *b\n",
        &[json!({"base": {"x": 1, "z": 2}, "use": {"x": 1, "z": 3}, "again": {"x": 1, "z": 2}})],
    );
}

#[test]
fn errors_name_document_and_line() {
    check_error("a: 1\na: 2\n", "line 2: the key \"a\" appears twice");
    check_error(
        "a: 1\n---\nb: .nan\n",
        "line 3: infinity and NaN have no form in JSON (document 2)",
    );
    let error = documents("a: [1, 2\nb: 3").expect_err("an open bracket");
    assert_eq!((error.document, error.line), (1, 2), "{error}");
    check_error("? [a]\n: 1\n", "line 1: a key must be a scalar");
}

#[test]
fn leniently_the_last_of_two_keys_counts() {
    let (documents, complaints) =
        documents_lenient("a: 1\nb: {c: 1, c: 2}\na: 3\n").expect("lenient");
    assert_eq!(documents, [json!({"a": 3, "b": {"c": 2}})]);
    let complaints: Vec<String> = complaints.iter().map(YamlError::to_string).collect();
    assert_eq!(
        complaints,
        [
            "line 2: the key \"c\" appears twice",
            "line 3: the key \"a\" appears twice"
        ]
    );
    assert!(documents_lenient("? [a]\n: 1\n").is_err());
}

impl Faults {
    fn said(&self, place: &str) -> Vec<String> {
        let twice = self.twice.iter().map(ToString::to_string);
        let refusal = self.refusal.iter().map(ToString::to_string);
        let all = twice.chain(refusal);
        all.map(|fault| format!("{place}: {fault}")).collect()
    }
}

/// What `read` hands over, put together again: the documents; what is wrong, each with its place.
fn pieces(text: &[u8]) -> io::Result<(Vec<Value>, Vec<String>)> {
    pieces_of(|| Ok(text))
}

fn pieces_of<R: Read>(open: impl Fn() -> io::Result<R>) -> io::Result<(Vec<Value>, Vec<String>)> {
    let (mut documents, mut items, mut said) = (Vec::new(), Vec::new(), Vec::new());
    read(open, &mut |piece| match piece {
        Piece::Items(_) => items.clear(),
        Piece::Item(item, faults) => {
            let place = format!("{}[{}]", documents.len(), items.len());
            said.extend(faults.said(&place));
            items.push(item);
        }
        Piece::Document(mut document, faults) => {
            said.extend(faults.said(&documents.len().to_string()));
            if !items.is_empty() {
                document["items"] = items.drain(..).collect();
            }
            documents.push(document);
        }
        Piece::Broken(error) => {
            items.clear();
            said.push(format!("line {}", error.line));
        }
        Piece::Restart => {
            documents.clear();
            items.clear();
            said.clear();
        }
    })?;
    Ok((documents, said))
}

#[test]
fn manifests_lose_only_what_is_wrong() {
    let table = [
        ("a: 1\n---\nb: 2\n", "[{\"a\":1},{\"b\":2}]", ""),
        (
            "a: 1\n---\nb: [\n---\n# x\n---\nc: 3\nc: 4\n",
            "[{\"a\":1},{\"c\":4}]",
            "line 4; 1: line 8: the key \"c\" appears twice (document 4)",
        ),
        (
            "items:\n- a: 1\n- {b: 1, b: 2}\n",
            "[{\"items\":[{\"a\":1},{\"b\":2}]}]",
            "0[1]: line 3: the key \"b\" appears twice",
        ),
        (
            "{\"a\": {\"b\": 1, \"b\": 2}}\n{\"c\": 3}",
            "[{\"a\":{\"b\":2}},{\"c\":3}]",
            "0: line 1: the key \"b\" appears twice",
        ),
        (
            "{\"items\": [{},\n{\"b\":\t1,\n\"b\": 2}],\n\"c\": 1,\n\"c\": 2}",
            "[{\"c\":2,\"items\":[{},{\"b\":2}]}]",
            "0[1]: line 3: the key \"b\" appears twice; 0: line 5: the key \"c\" appears twice",
        ),
        ("{\"a\": 1}{\"a\": 2}", "[{\"a\":1},{\"a\":2}]", ""),
        (
            "{}\n{\"a\": 1,\n\"a\": 2}",
            "[{},{\"a\":2}]",
            "1: line 3: the key \"a\" appears twice (document 2)",
        ),
        (
            "{\"items\": [1, 2], \"items\": [3]}",
            "[{\"items\":[3]}]",
            "0: line 1: the key \"items\" appears twice",
        ),
        (
            "items: [1, 2]\nitems: [3]\n",
            "[{\"items\":[3]}]",
            "0: line 2: the key \"items\" appears twice",
        ),
        // No JSON after all.
        ("{\"a\": 1}\n---\nb: 2", "[{\"a\":1},{\"b\":2}]", ""),
        (
            "{\"items\": [1, 2]}\n---\n[",
            "[{\"items\":[1,2]}]",
            "line 4",
        ),
        // An item was good, its document is not.
        ("items:\n- a: 1\n- [\n---\nb: 2", "[{\"b\":2}]", "line 4"),
        // What has an anchor, and what comes from elsewhere.
        (
            "x: &x [1]\nitems: &z [2, 3]\nz: *z",
            "[{\"items\":[2,3],\"x\":[1],\"z\":[2,3]}]",
            "",
        ),
        (
            "x: &x {items: [1]}\n<<: *x\n",
            "[{\"items\":[1],\"x\":{\"items\":[1]}}]",
            "",
        ),
        (
            "items:\n- &a {b: 1}\n- *a\nc: *a\n",
            "[{\"c\":{\"b\":1},\"items\":[{\"b\":1},{\"b\":1}]}]",
            "",
        ),
        // Directives and comments belong to what follows; `...` ends a document, too.
        (
            "%YAML 1.2\n  # x\n---\na: 1\n...\n%YAML 1.2\n---\nb: [\n",
            "[{\"a\":1}]",
            "line 9",
        ),
        (
            "a: 1\n...\nb: 2\nb: 3",
            "[{\"a\":1},{\"b\":3}]",
            "1: line 4: the key \"b\" appears twice (document 2)",
        ),
        ("\u{feff}a: 1\r\n---\r\nb: 2", "[{\"a\":1},{\"b\":2}]", ""),
        ("", "[]", ""),
        (" \n# nothing\n---\n", "[]", ""),
        ("text: |\n  ---\n  more\n---not\n", "[]", "line 5"),
    ];
    for (text, documents, wrong) in table {
        let (found, said) = pieces(text.as_bytes()).expect("readable");
        assert_eq!(Value::Array(found).to_string(), documents, "{text}");
        assert_eq!(said.join("; "), wrong, "{text}");
    }
}

#[test]
fn what_is_no_text_costs_its_object() {
    let table: [(&[u8], &str, &str); 6] = [
        (b"a: \xff", "0: the object has bytes that are no UTF-8", "a"),
        (
            b"{\"a\": \"\xff\"}",
            "0: the object has bytes that are no UTF-8",
            "a",
        ),
        (
            b"a: \xe2\x82",
            "0: the object has bytes that are no UTF-8",
            "a",
        ),
        (b"# \xff\na: 1", "", "a"),
        (
            b"items: [{a: 1}, {a: \xff}, {a: 3}]",
            "0[1]: the object has bytes that are no UTF-8",
            "items",
        ),
        (
            b"{\"items\": [{\"a\": 1}, {\"a\": \"\xff\"}, {\"a\": 3}]}\n{\"b\": 1}",
            "0[1]: the object has bytes that are no UTF-8",
            "items",
        ),
    ];
    for (text, expect, key) in table {
        let (documents, said) = pieces(text).expect("readable");
        assert_eq!(said.join("; "), expect, "{}", text.escape_ascii());
        assert!(documents[0].get(key).is_some(), "{documents:?}");
    }
    let (documents, said) = pieces(b"a: [\n---\n\xff\n---\nb: 1").expect("readable");
    assert_eq!(
        (documents.len(), said.len()),
        (2, 2),
        "{documents:?} {said:?}"
    );
}

#[test]
fn utf_16_is_read_where_a_mark_says_so() {
    let text = "a: é\n---\nb: \u{1f600}\n";
    let units: Vec<u16> = "\u{feff}"
        .encode_utf16()
        .chain(text.encode_utf16())
        .collect();
    let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
    let expect = vec![json!({"a": "é"}), json!({"b": "\u{1f600}"})];
    for bytes in [&little, &big] {
        let slow = || Ok(Slow(bytes.as_slice(), 1));
        for found in [pieces(bytes), pieces_of(slow)] {
            assert_eq!(found.expect("readable"), (expect.clone(), Vec::new()));
        }
        let (_, said) = pieces(&bytes[..bytes.len() - 3]).expect("readable");
        assert_eq!(said, ["1: the object has bytes that are no UTF-8"]);
    }
}

#[test]
fn of_a_large_object_only_its_name_is_kept() {
    let object = |name: &str, spec: &str| {
        format!(
            "{{\"kind\":\"K\",\"spec\":[{spec}],\"metadata\":{{\"note\":\"\",\"name\":\"{name}\"}}}}"
        )
    };
    // JSON is as large as its text; of YAML each node counts.
    let text = |size: usize| format!("\"{}\"", "x".repeat(size));
    let nodes = |size: usize| vec!["1"; size / 32].join(",");
    let fillings: [(&str, &dyn Fn(usize) -> String); 2] = [("", &text), ("---\n", &nodes)];
    for (begin, filling) in fillings {
        let small = object("small", &filling(LARGEST / 2));
        let large = object("large", &filling(LARGEST + 100));
        let kept = json!({"kind": "K", "metadata": {"name": "large"}});
        let refused = "the object is larger than 4194304 bytes";

        let text = format!("{begin}{small}\n{begin}{large}\n{begin}{{\"a\":1}}\n");
        let (documents, said) = pieces(text.as_bytes()).expect("readable");
        assert_eq!(said, [format!("1: {refused}")]);
        assert!(documents[0]["spec"].is_array());
        assert_eq!(documents[1..], [kept.clone(), json!({"a": 1})]);

        let text = format!("{begin}{{\"items\":[{small},{large},{small}],\"kind\":\"List\"}}");
        let (documents, said) = pieces(text.as_bytes()).expect("readable");
        assert_eq!(said, [format!("0[1]: {refused}")]);
        assert_eq!(documents[0]["items"][1], kept);
        assert_eq!(documents[0]["items"][2]["metadata"]["name"], "small");
    }
}

#[test]
fn a_long_value_is_not_read_to_its_end() {
    let long = "x".repeat(200);
    let text = format!("kind: K\nmetadata:\n  name: web\n  note: {long}\nz: 1\n");
    let mut each = |piece: Piece<'_>| panic!("{piece:?}");
    let mut composer = Composer::new(&mut each, false, 10, 1, Rc::default());
    composer.longest = 100;
    let error = composer.read(&mut text.chars()).expect_err("too long");
    let expect = "line 11: K web: metadata.note is longer than 100 characters: nothing behind it in this document \
                  is read (document 2)";
    assert_eq!(error.to_string(), expect);
}

/// A text of which so many bytes are read at once.
struct Slow<'t>(&'t [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(self.1);
        self.0.read(&mut buffer[..room])
    }
}

/// Whatever falls between two reads.
#[test]
fn where_the_reader_pauses_makes_no_difference() {
    // Longer than what is read at once, the characters at every place in it.
    for shift in 0..4 {
        let mut text = format!("# {}\n", "x".repeat(shift));
        for i in 0..2000 {
            text.push_str(&format!("---\nname: \"é€😀-{i}\"\n"));
        }
        let (expect, _) = compose(&text, true).expect("YAML");
        assert_eq!(expect.len(), 2000);
        for pause in [1, 3, 4096, 1 << 20] {
            let mut found = Vec::new();
            read(
                || Ok(Slow(text.as_bytes(), pause)),
                &mut |piece| match piece {
                    Piece::Document(document, _) => found.push(document),
                    other => panic!("{other:?}"),
                },
            )
            .expect("readable");
            assert_eq!(found, expect, "{shift} {pause}");
        }
        let json: String = expect.iter().map(|value| format!("{value}\n")).collect();
        let (found, said) = pieces(json.as_bytes()).expect("readable");
        assert_eq!((found, said.len()), (expect, 0));
    }
}

#[test]
fn hostile_texts_are_refused() {
    check_error(&"- ".repeat(1000), "line 1: nested too deeply");
    assert!(documents(&"[".repeat(100_000)).is_err());
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
    for i in 1..10 {
        let refs = vec![format!("*a{}", i - 1); 10].join(", ");
        laughs.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
    }
    let error = documents(&laughs).expect_err("a billion laughs");
    assert_eq!(error.message, "aliases expand to too much");
    let long = "x".repeat(200_000);
    for text in [
        format!("- &a {long}\n{}", "- *a\n".repeat(1000)),
        format!("- &a {{? {long}}}\n{}", "- *a\n".repeat(1000)),
        format!("{}{long}{}", "&a [".repeat(100), "]".repeat(100)),
    ] {
        let error = documents(&text).expect_err("more than memory can hold");
        assert_eq!(error.message, "aliases expand to too much");
    }
    // One copy of everything is no expansion.
    assert!(
        documents(&format!(
            "- &a [{long}, {long}]\n- &b [{long}, {long}]\n- *a"
        ))
        .is_ok()
    );
    check_error(
        "a: &a [*a]",
        "line 1: an alias to an anchor that is not complete yet",
    );
}
