//! Casts, operators and functions of a database's users, such as those that came from Oracle have,
//! and worse.

/// For every common type a cast to text that prints something else, and one from text that reads
/// something else: implicit ones, for assignments, and those that must be asked for. Statements that
/// come after this write values as quoted literals, since hardly an operator is unique any more.
pub(crate) const USER_CASTS: &str = r#"
    create schema casts;
    do $$
    declare
      type text;
      n int := 0;
      context text;
    begin
      foreach type in array array[
        'smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision', 'oid', 'bytea',
        'date', 'time', 'timetz', 'timestamp', 'timestamptz', 'interval', 'uuid', 'json', 'jsonb',
        'pg_lsn', 'xid', 'xid8', 'tid', 'regrole', 'macaddr', 'bit', 'varbit', 'int4range',
        'integer[]', 'tid[]', 'point', 'money'] loop
        n := n + 1;
        context := (array['as implicit', 'as assignment', ''])[n % 3 + 1];
        if type in ('smallint', 'integer', 'bigint', 'timestamp', 'uuid') then
          context := 'as implicit';
        end if;
        if not exists (select from pg_cast
                        where castsource = type::regtype and casttarget = 'text'::regtype) then
          execute format(
            'create function casts.print(%1$s) returns text strict immutable language sql
               as ''select ''''#%2$s''''::text''', type, n);
          execute format('create cast (%1$s as text) with function casts.print(%1$s) %2$s',
                         type, context);
        end if;
        if not exists (select from pg_cast
                        where castsource = 'text'::regtype and casttarget = type::regtype) then
          execute format(
            'create function casts.%2$I(text) returns %1$s strict immutable language plpgsql
               as ''begin return null; end''', type, 'read ' || type);
          execute format('create cast (text as %1$s) with function casts.%2$I(text) %3$s',
                         type, 'read ' || type,
                         case when type in ('integer', 'bigint') then 'as assignment'
                              else context end);
        end if;
      end loop;
    end $$;
    create function casts.print(text[]) returns text strict immutable language sql
      as 'select ''#text[]''::text';
    create cast (text[] as text) with function casts.print(text[]) as implicit;
    create function casts.read_texts(text) returns text[] strict immutable language sql
      as 'select array[''another'']::text[]';
    create cast (text as text[]) with function casts.read_texts(text) as assignment;
"#;
