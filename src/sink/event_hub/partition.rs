//! Which partition an event belongs to.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::Event;
use crate::model::{EventHubOptions, PartitionBy, PartitionHash, PartitionKeySource};

/// Chooses partitions. The same event always gets the same one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Router {
    by: PartitionBy,
    source: PartitionKeySource,
    hash: PartitionHash,
    partitions: usize,
}

impl Router {
    pub(super) fn new(options: &EventHubOptions, partitions: usize) -> Self {
        Self {
            by: options.partition_by,
            source: options.partition_key_source,
            hash: options.partition_hash,
            partitions,
        }
    }

    /// A partition's index.
    pub(super) fn partition(&self, event: &Event) -> usize {
        match (self.by, &event.key) {
            (PartitionBy::Key, Some(key)) => match self.source {
                PartitionKeySource::Json => self.hashed(key),
                PartitionKeySource::Values => self.hashed(key_values(key).as_bytes()),
                PartitionKeySource::Struct => self.hashed(key_struct(key).as_bytes()),
            },
            (PartitionBy::Table, _) => self.hashed(event.table.to_string().as_bytes()),
            (PartitionBy::Key, None) | (PartitionBy::RoundRobin, _) => {
                // Random bits of a UUIDv5, which has its version and variant elsewhere.
                (event.id.as_u128() as u32) as usize % self.partitions
            }
        }
    }

    fn hashed(&self, key: &[u8]) -> usize {
        match self.hash {
            PartitionHash::EventHubs => service_partition(key, self.partitions),
            PartitionHash::Kafka => kafka_partition(key, self.partitions),
        }
    }
}

/// The partition that Event Hubs chooses for a partition key: 16 bits of Bob Jenkins' lookup3
/// (`hashlittle2`), signed, modulo the number of partitions. The SDKs' buffered producers do the
/// same; `vectors.json` has what the JavaScript one says.
fn service_partition(key: &[u8], partitions: usize) -> usize {
    let (b, c) = lookup3(key);
    let hash = i64::from((c ^ b) as i16);
    (hash % partitions as i64).unsigned_abs() as usize
}

/// <https://burtleburtle.net/bob/c/lookup3.c>, `hashlittle2` with seeds of 0.
fn lookup3(key: &[u8]) -> (u32, u32) {
    let start = 0xdead_beef_u32.wrapping_add(key.len() as u32);
    let (mut a, mut b, mut c) = (start, start, start);
    let word =
        |bytes: &[u8]| bytes.iter().rev().fold(0, |word, &byte| (word << 8) | u32::from(byte));
    let mut rest = key;
    let add = |a: &mut u32, b: &mut u32, c: &mut u32, block: &[u8]| {
        let mut words = block.chunks(4).map(word);
        for part in [a, b, c] {
            *part = part.wrapping_add(words.next().unwrap_or(0));
        }
    };
    while rest.len() > 12 {
        let (block, tail) = rest.split_at(12);
        add(&mut a, &mut b, &mut c, block);
        a = a.wrapping_sub(c) ^ c.rotate_left(4);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(6);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(8);
        b = b.wrapping_add(a);
        a = a.wrapping_sub(c) ^ c.rotate_left(16);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(19);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(4);
        b = b.wrapping_add(a);
        rest = tail;
    }
    if rest.is_empty() {
        return (b, c);
    }
    add(&mut a, &mut b, &mut c, rest);
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    c = (c ^ b).wrapping_sub(b.rotate_left(24));
    (b, c)
}

/// The partition that Kafka's default partitioner chooses for a record's key.
fn kafka_partition(key: &[u8], partitions: usize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % partitions
}

/// `org.apache.kafka.common.utils.Utils.murmur2`
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let word = word.iter().rev().fold(0, |word, &byte| (word << 8) | u32::from(byte));
        let word = u32::wrapping_mul(word, M);
        hash = hash.wrapping_mul(M) ^ (word ^ (word >> 24)).wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0, |word, &byte| (word << 8) | u32::from(byte));
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

fn key_values(key: &[u8]) -> String {
    let values: Vec<String> = fields(key).into_iter().map(|(_, value)| value).collect();
    values.join(",")
}

fn key_struct(key: &[u8]) -> String {
    let fields: Vec<String> =
        fields(key).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("Struct{{{}}}", fields.join(","))
}

/// The fields of a message key, in its order; strings without quotes, all else as JSON has it.
fn fields(key: &[u8]) -> Vec<(String, String)> {
    struct InOrder;
    impl<'de> Visitor<'de> for InOrder {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a message key")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::new();
            while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                let text = serde_json::from_str::<String>(value.get())
                    .unwrap_or_else(|_| value.get().to_owned());
                fields.push((name, text));
            }
            Ok(fields)
        }
    }
    // The encoder wrote it; what is not an object stands for itself.
    serde_json::Deserializer::from_slice(key)
        .deserialize_map(InOrder)
        .unwrap_or_else(|_| vec![(String::new(), String::from_utf8_lossy(key).into_owned())])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What `scripts/event-hub-vectors` had the official JavaScript SDK say.
    #[test]
    fn keys_go_where_the_service_would_put_them() {
        #[derive(serde::Deserialize)]
        struct Vectors {
            partitions: Vec<usize>,
            keys: Vec<(String, Vec<usize>)>,
        }
        let vectors: Vectors = serde_json::from_str(include_str!("vectors.json")).unwrap();
        assert!(vectors.keys.len() > 3000 && vectors.partitions.len() > 5);
        for (key, expected) in &vectors.keys {
            for (&partitions, &expected) in vectors.partitions.iter().zip(expected) {
                let found = service_partition(key.as_bytes(), partitions);
                assert_eq!(found, expected, "{key:?} of {partitions}");
            }
        }
    }

    /// From Kafka's own UtilsTest.testMurmur2.
    #[test]
    fn murmur2_is_kafkas() {
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn keys_in_other_forms() {
        let key = br#"{"b":"x, \"y\"","a":3,"n":null}"#;
        assert_eq!(key_values(key), "x, \"y\",3,null");
        assert_eq!(key_struct(key), "Struct{b=x, \"y\",a=3,n=null}");
    }
}
