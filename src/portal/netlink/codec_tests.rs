//! The framing: bytes as the kernel and iproute2 write them, and bytes that nobody should.

use super::super::rng::seeds;
use super::*;

/// `(kind, flags, payload)` of one message, as bytes.
fn framed(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((16 + payload.len() as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(7u32.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

#[test]
fn a_datagram_splits_into_its_messages() {
    let message = |length: u32, size: usize| {
        let mut bytes = vec![7; size];
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes
    };
    let lengths = |bytes: &[u8]| messages(bytes).map(|m| m.payload.len()).collect::<Vec<_>>();
    let two = |first: Vec<u8>, second: Vec<u8>| [first, second].concat();
    let cases: &[(Vec<u8>, &[usize])] = &[
        (vec![], &[]),
        (message(16, 16), &[0]),
        (two(message(17, 20), message(24, 24)), &[1, 8]),
        // The last one lacks its padding.
        (two(message(16, 16), message(18, 18)), &[0, 2]),
        // Cut off, or a length that would never advance.
        (two(message(16, 16), message(40, 20)), &[0]),
        (two(message(16, 16), message(16, 15)), &[0]),
        (message(0, 32), &[]),
        (message(15, 32), &[]),
        (message(u32::MAX, 32), &[]),
    ];
    for (bytes, expected) in cases {
        assert_eq!(lengths(bytes), *expected, "{bytes:?}");
    }
    let framed = framed(0x1234, 0x5678, &[9]);
    let message = messages(&framed).next().unwrap();
    assert_eq!((message.kind, message.flags), (0x1234, 0x5678));
    assert_eq!((message.sequence, message.payload), (7, &[9][..]));
}

#[test]
fn a_message_splits_into_its_attributes() {
    let attribute = |length: u16, kind: u16, value: &[u8]| {
        let head = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        [&head, value].concat()
    };
    let good = attribute(5, 3, &[9, 0, 0, 0]);
    type Found<'a> = &'a [(u16, &'a [u8])];
    let cases: &[(Vec<u8>, Found)] = &[
        (vec![], &[]),
        (good.clone(), &[(3, &[9])]),
        (attribute(4, 3, &[]), &[(3, &[])]),
        // Without its padding; the flags of the kind are not the kind's.
        (attribute(5, 3, &[9]), &[(3, &[9])]),
        (attribute(5, 0x8003, &[9]), &[(3, &[9])]),
        (attribute(5, 0x4003, &[9]), &[(3, &[9])]),
        (
            [good.clone(), good.clone()].concat(),
            &[(3, &[9]), (3, &[9])],
        ),
        // Lengths that cannot be end the walk.
        (
            [good.clone(), attribute(0, 3, &[9, 9])].concat(),
            &[(3, &[9])],
        ),
        (attribute(1, 3, &[9]), &[]),
        (attribute(3, 3, &[9]), &[]),
        (attribute(6, 3, &[9]), &[]),
        (attribute(u16::MAX, 3, &[9; 100]), &[]),
        (vec![4, 0, 3], &[]),
    ];
    for (bytes, expected) in cases {
        let found: Vec<_> = attributes(bytes).collect();
        assert_eq!(found, *expected, "{bytes:?}");
    }
}

#[test]
fn writing_patches_lengths_and_pads() {
    let mut writer = Writer::default();
    for sequence in [1, 2] {
        writer.message((16, 5, sequence), &[1, 2, 3, 4], |w| {
            w.u8_attribute(1, 9);
            w.nested(2, |w| {
                w.text_attribute(3, "abc");
                w.nested(4, |_| {});
            });
            w.ip_attribute(5, "10.96.0.1".parse().unwrap());
            w.ip_attribute(6, "2001:db8::1".parse().unwrap());
        });
    }
    let found: Vec<_> = messages(writer.bytes()).collect();
    assert_eq!(found.iter().map(|m| m.sequence).collect::<Vec<_>>(), [1, 2]);
    for message in found {
        assert_eq!((message.kind, message.flags), (16, 5));
        let (header, rest) = message.payload.split_at(4);
        assert_eq!(header, [1, 2, 3, 4]);
        let outer: Vec<_> = attributes(rest).collect();
        assert_eq!(outer.iter().map(|a| a.0).collect::<Vec<_>>(), [1, 2, 5, 6]);
        assert_eq!(u8_of(outer[0].1), Some(9));
        let inner: Vec<_> = attributes(outer[1].1).collect();
        assert_eq!(inner, [(3, &b"abc\0"[..]), (4, &[])]);
        assert_eq!(text_of(inner[0].1), "abc");
        assert_eq!(ip_of(outer[2].1), "10.96.0.1".parse().ok());
        assert_eq!(ip_of(outer[3].1), "2001:db8::1".parse().ok());
    }
    writer.clear();
    assert!(writer.bytes().is_empty());
}

#[test]
fn values_have_their_length_or_are_none() {
    for length in (0..20).filter(|length| ![4, 16].contains(length)) {
        assert_eq!(ip_of(&vec![1; length]), None, "{length}");
        assert_eq!(u32_of(&vec![1; length]), None, "{length}");
    }
    assert_eq!(u8_of(&[]), None);
    assert_eq!(u8_of(&[1, 2]), None);
    for (value, expected) in [
        (&b"eth0\0"[..], "eth0"),
        (b"eth0", "eth0"),
        (b"eth0\0\0x", "eth0"),
        (b"", ""),
        (b"\xffx\0", "\u{fffd}x"),
    ] {
        assert_eq!(text_of(value), expected);
    }
}

#[test]
fn acknowledgements_errors_and_ends_of_dumps() {
    const EINVAL: i32 = 22;
    const ENOENT: i32 = 2;
    let (capped, explained) = (NLM_F_CAPPED, NLM_F_ACK_TLVS);
    let word = |text: &str| {
        let mut writer = Writer::default();
        // An offset first, as the kernel may.
        writer.u32_attribute(3, 36);
        writer.text_attribute(NLMSGERR_ATTR_MSG, text);
        writer.bytes().to_vec()
    };
    let request = framed(24, 5, &[1; 45]);
    let payload = |code: i32, echoed: &[u8], word: &[u8]| {
        let mut bytes = code.to_ne_bytes().to_vec();
        bytes.extend(echoed);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        [bytes, word.to_vec()].concat()
    };
    let header = &request[..16];
    const ERROR: u16 = 2;
    // What the code is then known as, if it is, and how it reads.
    let invalid = "Invalid argument (os error 22)";
    let in_words = "Invalid argument (os error 22): Nexthop has invalid gateway";
    let missing = "No such file or directory (os error 2)";
    let text = word("Nexthop has invalid gateway");
    let cases = [
        (ERROR, capped, payload(0, header, &[]), None),
        (ERROR, 0, payload(0, &request, &[]), None),
        (NLMSG_DONE, 0, payload(0, &[], &[]), None),
        (NLMSG_DONE, 0, vec![], None),
        (
            ERROR,
            0,
            payload(-EINVAL, &request, &[]),
            Some((Some(EINVAL), invalid)),
        ),
        (
            ERROR,
            capped,
            payload(-EINVAL, header, &[]),
            Some((Some(EINVAL), invalid)),
        ),
        // The kernel's words after the header, after the whole request, after the end of a dump.
        (
            ERROR,
            capped | explained,
            payload(-EINVAL, header, &text),
            Some((None, in_words)),
        ),
        (
            ERROR,
            explained,
            payload(-EINVAL, &request, &text),
            Some((None, in_words)),
        ),
        (
            NLMSG_DONE,
            explained,
            payload(-EINVAL, &[], &text),
            Some((None, in_words)),
        ),
        // A warning is no failure; a code that is asked for stays one.
        (ERROR, capped | explained, payload(0, header, &text), None),
        (
            ERROR,
            capped | explained,
            payload(-ENOENT, header, &text),
            Some((Some(ENOENT), missing)),
        ),
        // Words that are cut off, or not there.
        (
            ERROR,
            explained,
            payload(-EINVAL, &[], &[]),
            Some((Some(EINVAL), invalid)),
        ),
        (
            ERROR,
            explained,
            payload(-EINVAL, &[255; 16], &text),
            Some((Some(EINVAL), invalid)),
        ),
    ];
    for (kind, flags, payload, expected) in cases {
        let bytes = framed(kind, flags, &payload);
        let result = outcome(&messages(&bytes).next().unwrap());
        let found = result.err().map(|e| (e.raw_os_error(), e.to_string()));
        let expected = expected.map(|(code, text)| (code, text.to_owned()));
        assert_eq!(found, expected, "{kind} {flags:#x} {payload:?}");
    }
    // An error that says nothing, and one that has no opposite.
    for payload in [&[][..], &[1, 2, 3], &i32::MIN.to_ne_bytes()] {
        let bytes = framed(ERROR, 0, payload);
        assert!(outcome(&messages(&bytes).next().unwrap()).is_err());
    }
}

#[test]
fn reading_any_bytes_ends() {
    seeds(2_000, |mut rng| {
        let length = rng.below(200);
        // Mostly small numbers: lengths and kinds that mean something.
        let bytes: Vec<u8> = (0..length)
            .map(|_| match rng.below(3) {
                0 => 0,
                1 => rng.below(40) as u8,
                _ => rng.next() as u8,
            })
            .collect();
        let found: Vec<_> = messages(&bytes).collect();
        assert!(found.len() <= bytes.len() / MESSAGE_HEADER);
        for message in found {
            let _ = outcome(&message);
        }
        let found: Vec<_> = attributes(&bytes).collect();
        assert!(found.len() <= bytes.len() / ATTRIBUTE_HEADER);
        for (_, value) in found {
            let inner = attributes(value).count();
            assert!(inner <= value.len() / ATTRIBUTE_HEADER);
        }
    });
}
