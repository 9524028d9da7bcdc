//! Records as JSON lines.

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::model::batch::{Codec, Header};
use crate::model::record;

/// The records of one batch, an object each: offset, timestamp, key, value and headers, with bytes in
/// base64. A compressed batch is one object with the whole batch, and is counted: its records cannot
/// be told apart without decompressing what a client sent, which nothing here does.
pub fn lines(batch: &Bytes, compressed: &mut u64) -> anyhow::Result<Vec<Value>> {
    let header = Header::parse(batch)?;
    let codec = header.codec()?;
    if codec != Codec::None {
        *compressed += 1;
        return Ok(vec![json!({
            "base_offset": header.base_offset.0,
            "last_offset": header.next_offset().plus(-1).0,
            "records": header.records,
            "codec": codec.name(),
            "batch": base64(batch),
        })]);
    }
    let parsed = record::parse_with_headers(batch)
        .with_context(|| format!("the batch at offset {}", header.base_offset))?;
    let object = |(placed, headers): (record::Placed, Vec<record::RecordHeader>)| {
        let stamped = header.is_log_append_time().then_some(header.max_timestamp);
        let headers: Vec<Value> = headers
            .iter()
            .map(|(key, value)| {
                json!({ "key": String::from_utf8_lossy(key), "value": nullable(value.as_ref()) })
            })
            .collect();
        json!({
            "offset": placed.offset.0,
            "timestamp": stamped.unwrap_or(placed.timestamp_ms),
            "key": nullable(placed.record.key.as_ref()),
            "value": nullable(placed.record.value.as_ref()),
            "headers": headers,
        })
    };
    Ok(parsed.into_iter().map(object).collect())
}

fn nullable(bytes: Option<&Bytes>) -> Value {
    bytes.map_or(Value::Null, |bytes| base64(bytes).into())
}

/// RFC 4648, section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=three.len()].copy_from_slice(three);
        let word = u32::from_be_bytes(word);
        for n in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * n) & 63) as usize];
            text.push(if n <= three.len() { digit.into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    fn built() -> Vec<u8> {
        let record = |key: Option<&'static str>| record::Record {
            key: key.map(|k| Bytes::from_static(k.as_bytes())),
            value: Some(Bytes::from_static(b"foo")),
        };
        record::build(&[record(Some("fo")), record(None)], 77).to_vec()
    }

    #[test]
    fn records_are_lines_and_a_compressed_batch_is_one() {
        let mut compressed = 0;
        let found = lines(&built().into(), &mut compressed).unwrap();
        let text: Vec<String> = found.iter().map(Value::to_string).collect();
        let line = |offset, key| {
            format!(
                "{{\"headers\":[],\"key\":{key},\"offset\":{offset},\"timestamp\":77,\"value\":\"Zm9v\"}}"
            )
        };
        assert_eq!(text, [line(0, "\"Zm8=\""), line(1, "null")]);
        let mut zstd = built();
        zstd[22] |= 4;
        let found = lines(&zstd.clone().into(), &mut compressed).unwrap();
        assert_eq!((found.len(), compressed), (1, 1));
        assert_eq!((&found[0]["codec"], &found[0]["last_offset"]), (&"zstd".into(), &1.into()));
        assert_eq!(found[0]["batch"], base64(&zstd));
        let mut stamped = built();
        stamped[22] |= 8;
        stamped[35..43].copy_from_slice(&99i64.to_be_bytes());
        assert_eq!(lines(&stamped.into(), &mut compressed).unwrap()[1]["timestamp"], 99);
    }
}
