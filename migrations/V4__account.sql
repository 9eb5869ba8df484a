-- The account of each table: what a work item adds to it, and how it came out.

-- Inserts and deletes that were found, whether they are sent or not, and the rows that the strategy
-- passed, if it counts them; up to the checkpoint, and in all once the item is completed.
alter table work_item add column account jsonb;

update work_item
   set account = case when state = 'completed'
                      then jsonb_build_object('inserts', inserts, 'deletes', deletes)
                      when done is not null
                      then jsonb_build_object('inserts', done -> 'inserts', 'deletes', done -> 'deletes')
                 end;

create table account (
  recovery_id uuid not null references recovery on delete cascade,
  schema_name text not null,
  table_name text not null,
  -- Published rows of either side; null if nobody counted them.
  rows_base bigint,
  rows_head bigint,
  -- Rows of head less rows of base, less inserts, and deletes added: 0 in a table that balances.
  balance bigint,
  -- Why the events of the table are not to be trusted, if so.
  error text,
  primary key (recovery_id, schema_name, table_name)
);
