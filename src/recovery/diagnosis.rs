//! Why a table could not be read, as an operator needs to hear it: on which server, which column, who
//! holds the lock, and what to do.

use crate::diff::{self, Source, Tables};
use crate::error::{Error, ErrorKind, Result};
use crate::model::TableName;
use crate::postgres::{Server, Side};
use crate::preflight::{self, Servers};

/// The same error with the server in it and, where that can be found out, with what it is about. One
/// that PostgreSQL did not raise is left as it is.
pub(super) async fn explained(
    servers: &Servers,
    session_name: &str,
    tables: &Tables,
    error: Error,
) -> Error {
    let Some(side) = error.raised_on() else { return error };
    if !matches!(error.kind(), ErrorKind::Item | ErrorKind::Transient) {
        return error;
    }
    let table = &tables.table.name;
    match error.sqlstate() {
        // lock_not_available
        Some("55P03") => match locked_by(servers, session_name, table, side).await {
            Ok(Some(sentence)) => Error::new(error.kind(), sentence).because(error),
            _ => error.while_doing(format!("on {side}")),
        },
        // data_corrupted, index_corrupted
        Some("XX001" | "XX002") => Error::item(format!(
            "{table} is damaged on {side}: {error}; restore {side} again; if production has the \
             damage too, mend it there, or leave the table out with --exclude {table}"
        ))
        .because(error),
        // character_not_in_repertoire, untranslatable_character
        Some("22021" | "22P05") => {
            let (column, side) = column(servers, session_name, tables, side).await;
            Error::item(format!(
                "{column} of {table} on {side} has text that is no UTF-8: {error}; correct it on \
                 production, or leave the column out with a column list of the publication, or the \
                 table with --exclude {table}"
            ))
            .because(error)
        }
        Some(code) if is_too_long(code, &error) => {
            let (column, side) = column(servers, session_name, tables, side).await;
            Error::item(format!(
                "{column} of {table} on {side} is too long to be printed: PostgreSQL makes no text \
                 of more than 1 GB, and so neither does the stream ({error}); leave the column out \
                 with a column list of the publication, or the table with --exclude {table}"
            ))
            .because(error)
        }
        _ => error.while_doing(format!("on {side}")),
    }
}

/// Whether a text could not be made since it would take more than 1 GB. PostgreSQL does not translate
/// the message of an internal error.
fn is_too_long(code: &str, error: &Error) -> bool {
    // program_limit_exceeded
    code == "54000"
        || code == "XX000" && error.to_string().contains("invalid memory alloc request size")
}

/// The column with a value that cannot be read, for people, and the server that has it. `side`: where
/// the failure was seen.
async fn column(
    servers: &Servers,
    session_name: &str,
    tables: &Tables,
    side: Side,
) -> (String, Side) {
    let base = (Side::Base, &servers.base, tables.base.as_ref());
    let head = (Side::Head, &servers.head, Some(&tables.head));
    let order = if side == Side::Base { [base, head] } else { [head, base] };
    for (side, server, source) in order {
        let Some(source) = source else { continue };
        if let Ok(Some(column)) = unreadable_column(server, session_name, source).await {
            return (format!("column {column:?}"), side);
        }
    }
    ("a row".to_owned(), side)
}

async fn unreadable_column(
    server: &Server,
    session_name: &str,
    source: &Source,
) -> Result<Option<String>> {
    let session = server.connect(session_name).await?;
    let found = diff::unreadable_column(&session, source).await?.map(str::to_owned);
    session.close().await;
    Ok(found)
}

/// Who has locked the table there, or another one, in a sentence; `None` if nobody has any more.
async fn locked_by(
    servers: &Servers,
    session_name: &str,
    table: &TableName,
    side: Side,
) -> Result<Option<String>> {
    let server = if side == Side::Base { &servers.base } else { &servers.head };
    let session = server.connect(session_name).await?;
    let locked = preflight::locked_tables(&session).await?;
    session.close().await;
    let name = table.to_string();
    let this = locked.iter().find(|locked| locked.table == name);
    Ok(this.or(locked.first()).map(|locked| locked.sentence(side)))
}
