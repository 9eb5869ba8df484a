//! `point`, PostGIS's `geometry` and `geography`, and pgvector's types.

use base64::engine::general_purpose::STANDARD;

use super::super::json;
use super::super::value::Malformed;
use super::binary::hex;
use super::decimal::float;

/// A point: its coordinates and their well-known binary (`io.debezium.data.geometry.Point`).
pub(super) fn point(text: &str, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let malformed = Malformed("is not a point");
    let (x, y) = text
        .strip_prefix('(')
        .and_then(|text| text.strip_suffix(')'))
        .and_then(|text| text.split_once(','))
        .ok_or(malformed)?;
    let mut wkb = [0; 21];
    wkb[..5].copy_from_slice(&[1, 1, 0, 0, 0]);
    for (coordinate, bytes) in [(x, 5..13), (y, 13..21)] {
        let number: f64 = coordinate.parse().map_err(|_| malformed)?;
        wkb[bytes].copy_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(b"{\"x\":");
    float(x, out).map_err(|_| malformed)?;
    out.extend_from_slice(b",\"y\":");
    float(y, out).map_err(|_| malformed)?;
    out.extend_from_slice(b",\"wkb\":");
    json::base64(&wkb, &STANDARD, out);
    out.extend_from_slice(b",\"srid\":null}");
    Ok(())
}

/// PostGIS prints extended well-known binary in hexadecimal; its SRID is taken from inside
/// (`PostgisGeometry`; <https://postgis.net/docs/using_postgis_dbmanagement.html#EWKB_EWKT>).
pub(super) fn ewkb(text: &str, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let malformed = Malformed("is not hexadecimal EWKB");
    let bytes = hex(text).ok_or(malformed)?;
    let (&[order, t0, t1, t2, t3, ref rest @ ..], _) =
        bytes.split_first_chunk::<9>().ok_or(malformed)?;
    let number = |bytes| match order {
        0 => u32::from_be_bytes(bytes),
        _ => u32::from_le_bytes(bytes),
    };
    const HAS_SRID: u32 = 0x2000_0000;
    let srid = (number([t0, t1, t2, t3]) & HAS_SRID != 0).then(|| number(*rest) as i32);
    out.extend_from_slice(b"{\"wkb\":");
    json::base64(&bytes, &STANDARD, out);
    out.extend_from_slice(b",\"srid\":");
    match srid {
        Some(srid) => json::integer(i64::from(srid), out),
        None => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
    Ok(())
}

/// `vector` and `halfvec`: `[1,2.5]`.
pub(super) fn vector(text: &str, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let malformed = Malformed("is not a vector");
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).ok_or(malformed)?;
    out.push(b'[');
    for (at, number) in inside.split(',').enumerate() {
        if at > 0 {
            out.push(b',');
        }
        float(number, out).map_err(|_| malformed)?;
    }
    out.push(b']');
    Ok(())
}

/// `sparsevec`: `{1:1,3:2.5}/5`. A map without string keys is an array of pairs to `JsonConverter`.
pub(super) fn sparse_vector(text: &str, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let malformed = Malformed("is not a sparse vector");
    let (inside, dimensions) =
        text.strip_prefix('{').and_then(|text| text.split_once("}/")).ok_or(malformed)?;
    out.extend_from_slice(b"{\"dimensions\":");
    json::integer_text(dimensions, out).map_err(|_| malformed)?;
    out.extend_from_slice(b",\"vector\":[");
    for (at, entry) in inside.split(',').filter(|entry| !entry.is_empty()).enumerate() {
        let (index, number) = entry.split_once(':').ok_or(malformed)?;
        out.extend_from_slice(if at > 0 { b",[" } else { b"[" });
        json::integer_text(index, out).map_err(|_| malformed)?;
        out.push(b',');
        float(number, out).map_err(|_| malformed)?;
        out.push(b']');
    }
    out.extend_from_slice(b"]}");
    Ok(())
}
