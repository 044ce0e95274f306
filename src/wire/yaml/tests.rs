use super::*;
use serde_json::json;

#[track_caller]
fn check(text: &str, expect: &[Value]) {
    assert_eq!(documents(text).as_deref(), Ok(expect), "{text}");
}

#[track_caller]
fn check_error(text: &str, expect: &str) {
    let error = documents(text).expect_err(text);
    assert_eq!(error.to_string(), expect, "{text}");
}

#[test]
fn scalars_follow_the_core_schema() {
    check(
        "a: 1\nb: -2\nc: 0x1f\nd: 0o17\ne: 1.5\nf: 1e3\ng: 18446744073709551615\nh: 1.2.3.4\n",
        &[
            json!({"a": 1, "b": -2, "c": 31, "d": 15, "e": 1.5, "f": 1000.0, "g": u64::MAX, "h": "1.2.3.4"}),
        ],
    );
    check(
        "a: true\nb: yes\nc: ~\nd:\ne: 'true'\nf: \"1\"\ng: null\nh: inf\ni: 30s\nj: !!str 5\nk: 2026-01-01\n",
        &[
            json!({"a": true, "b": "yes", "c": null, "d": null, "e": "true", "f": "1", "g": null, "h": "inf", "i": "30s", "j": "5", "k": "2026-01-01"}),
        ],
    );
    check("80: web\ntrue: x", &[json!({"80": "web", "true": "x"})]);
    check(
        "a: |\n  one\n  two\nb: >-\n  one\n  two\n",
        &[json!({"a": "one\ntwo\n", "b": "one two"})],
    );
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
    check("{a: 1, b: [x, y]}", &[json!({"a": 1, "b": ["x", "y"]})]);
    check("\u{feff}a: 1", &[json!({"a": 1})]);
}

#[test]
fn aliases_and_merge_keys() {
    check(
        "base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\nagain: *b\n",
        &[json!({"base": {"x": 1, "y": 2}, "use": {"x": 1, "y": 3}, "again": {"x": 1, "y": 2}})],
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

/// What `read` hands over, put together again: the documents; what is wrong, each with its place.
fn pieces(text: &[u8]) -> io::Result<(Vec<Value>, Vec<String>)> {
    let (mut documents, mut items, mut said) = (Vec::new(), Vec::new(), Vec::new());
    read(|| Ok(text), &mut |piece| match piece {
        Piece::Items(_) => items.clear(),
        Piece::Item(item, twice) => {
            let place = format!("{}[{}]", documents.len(), items.len());
            said.extend(twice.iter().map(|error| format!("{place}: {error}")));
            items.push(item);
        }
        Piece::Document(mut document, twice) => {
            let place = documents.len();
            said.extend(twice.iter().map(|error| format!("{place}: {error}")));
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
            "x: &x [1]\nitems: &y [2, 3]\ny: *y",
            "[{\"items\":[2,3],\"x\":[1],\"y\":[2,3]}]",
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
fn only_utf8_is_read() {
    for text in [
        &b"a: \xff"[..],
        b"{\"a\": \"\xff\"}",
        b"a: \xe2\x82",
        b"a: [\n---\n\xff\n---\n",
    ] {
        let error = pieces(text).expect_err("no UTF-8");
        assert_eq!(error.to_string(), "stream did not contain valid UTF-8");
    }
}

/// Whatever falls between two reads.
#[test]
fn where_the_reader_pauses_makes_no_difference() {
    struct Slow<'t>(&'t [u8], usize);
    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let room = buffer.len().min(self.1);
            self.0.read(&mut buffer[..room])
        }
    }
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
