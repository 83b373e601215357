//! Records of a pax extended header.
//!
//! The parser of the tar crate takes a line feed for a record's end, and values of attributes are bytes: they have some.
//! Source: POSIX.1-2017, pax, section "pax Extended Header"; star(5) for `SCHILY.xattr.`.

/// Reads the records of a header, in their order.
pub(super) struct Records<'a> {
    rest: &'a [u8],
}

/// One record: `LENGTH KEY=VALUE` and a line feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

/// A header whose records do not fill it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadRecord;

impl<'a> Records<'a> {
    pub(super) fn new(header: &'a [u8]) -> Records<'a> {
        Records { rest: header }
    }

    fn record(&mut self) -> Option<Record<'a>> {
        let digits = self.rest.iter().position(|byte| *byte == b' ')?;
        let length = std::str::from_utf8(self.rest.get(..digits)?).ok()?;
        if !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let length: usize = length.parse().ok()?;
        let (record, rest) = self.rest.split_at_checked(length)?;
        let record = record.get(digits + 1..)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let (key, value) = record.split_at_checked(equals)?;
        self.rest = rest;
        Some(Record {
            key,
            value: value.get(1..)?,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.record().ok_or(BadRecord);
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

/// A number without a sign, as records write it.
pub(super) fn number(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// A time, as seconds and nanoseconds that count upwards: `-1.5` is -2 s and 500,000,000 ns.
pub(super) fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (is_negative, digits) = match whole.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, whole),
    };
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if digits.is_empty() || !is_number(digits) || !is_number(fraction) {
        return None;
    }
    let seconds: i64 = digits.parse().ok()?;
    let nanoseconds: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(match (is_negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(key: &[u8], value: &[u8]) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
    }

    #[test]
    fn records_are_read_in_their_order_and_values_may_be_any_bytes() {
        let header = [
            written(b"path", b"a/b"),
            written(b"SCHILY.xattr.user.x", b"1\n2=3\0\xff"),
            written(b"comment", b""),
        ]
        .concat();
        let read: Vec<_> = Records::new(&header)
            .map(|record| record.expect("it is one"))
            .collect();
        let pairs: Vec<_> = read.iter().map(|record| (record.key, record.value)).collect();
        assert_eq!(
            pairs,
            [
                (&b"path"[..], &b"a/b"[..]),
                (b"SCHILY.xattr.user.x", b"1\n2=3\0\xff"),
                (b"comment", b""),
            ]
        );
    }

    #[test]
    fn what_is_no_record_ends_the_header_with_an_error() {
        for bad in [
            &b"x"[..],
            b"9 path=a",
            b"9 path=ab",
            b"0 a=b\n",
            b"-9 path=a\n",
            b"+9 path=a\n",
            b"99999999999999999999999 a=b\n",
            b"6 abcd\n",
            b"3 \n",
            b" a=b\n",
            b"\0\0\0",
        ] {
            let read: Vec<_> = Records::new(bad).collect();
            assert_eq!(read, [Err(BadRecord)], "{bad:?}");
        }
    }

    #[test]
    fn times_count_upwards_and_numbers_have_no_sign() {
        for (text, expected) in [
            ("0", Some((0, 0))),
            ("1700000000.5", Some((1_700_000_000, 500_000_000))),
            ("1.000000001", Some((1, 1))),
            ("1.0000000019", Some((1, 1))),
            ("-1", Some((-1, 0))),
            ("-1.5", Some((-2, 500_000_000))),
            ("-0.25", Some((-1, 750_000_000))),
            ("", None),
            (".5", None),
            ("-", None),
            ("1e3", None),
            ("1.x", None),
            ("9223372036854775808", None),
        ] {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for bad in [&b""[..], b"-1", b"+1", b"1 ", b"18446744073709551616", b"\xff"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            pairs in proptest::collection::vec(("[a-zA-Z.]{1,120}", proptest::collection::vec(any::<u8>(), 0..1200)), 0..4)
        ) {
            let header: Vec<u8> = pairs.iter().flat_map(|(key, value)| written(key.as_bytes(), value)).collect();
            let read: Vec<_> = Records::new(&header)
                .map(|record| record.map(|record| (record.key.to_vec(), record.value.to_vec())).expect("it is one"))
                .collect();
            let expected: Vec<_> = pairs.into_iter().map(|(key, value)| (key.into_bytes(), value)).collect();
            prop_assert_eq!(read, expected);
        }
    }
}
