//! Names that are no UTF-8, which a database of encoding SQL_ASCII may have.

use super::Findings;
use crate::error::Result;
use crate::postgres::{Session, Side};

/// Names that one sentence has at most.
const NAMED: usize = 20;

/// Refuses a server that has such names: no catalog query that meets one is answered, since sessions
/// speak UTF-8. Yields whether there are any.
pub(super) async fn refuse_unreadable(
    side: Side,
    connection: &Session,
    findings: &mut Findings,
) -> Result<bool> {
    let encoding: String = connection.query_one("select getdatabaseencoding()::text", &[]).await?;
    if encoding != "SQL_ASCII" {
        return Ok(false);
    }
    let names: Vec<(String, Vec<u8>)> = connection
        .query(
            r#"
        select kind, convert_to(name::text, 'SQL_ASCII')
          from (select 'schema', nspname from pg_namespace
                 union all
                select 'relation', relname from pg_class where relkind in ('r', 'p', 'v', 'f', 'm')
                 union all
                -- Those of indexes are never asked for.
                select 'column', a.attname
                  from pg_attribute a join pg_class c on c.oid = a.attrelid
                 where a.attnum > 0 and c.oid >= 16384 and c.relkind in ('r', 'p', 'v', 'f', 'm', 'c')
                 union all
                select 'type', typname from pg_type where typtype <> 'b' and typrelid = 0
                 union all
                select 'label', enumlabel from pg_enum
                 union all
                select 'publication', pubname from pg_publication
                 union all
                select 'event trigger', evtname from pg_event_trigger
                 union all
                select 'foreign server', srvname from pg_foreign_server) as names (kind, name)
         where name::text ~ '[^\x01-\x7f]'
         order by 1, 2
        "#,
            &[],
        )
        .await?;
    let unreadable: Vec<String> = names
        .into_iter()
        .filter(|(_, bytes)| std::str::from_utf8(bytes).is_err())
        .map(|(kind, bytes)| format!("{kind} {}", escaped(&bytes)))
        .collect();
    if unreadable.is_empty() {
        return Ok(false);
    }
    let more = match unreadable.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    findings.refuse(format!(
        "{side} has names that are no UTF-8, though all clients here speak UTF-8: {}{more}; rename \
         them on both copies (events then have the new name), or on production, and restore again",
        unreadable[..unreadable.len().min(NAMED)].join(", ")
    ));
    Ok(true)
}

/// The name in quotes, its bytes beyond ASCII as `\xff`.
fn escaped(name: &[u8]) -> String {
    let escaped = name.iter().map(|&byte| match byte {
        b' '..=b'~' => char::from(byte).to_string(),
        byte => format!("\\x{byte:02x}"),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_name_are_shown() {
        assert_eq!(escaped(b"ab\xff \xe9"), "\"ab\\xff \\xe9\"");
    }
}
