-- The status of recoveries. It is the truth; queue messages are only hints.

create table recovery (
  id uuid primary key,
  state text not null
    check (state in ('planning', 'running', 'completed', 'failed', 'cancelled')),
  -- What was asked for, without any secret.
  request jsonb not null,
  -- What was recorded of the two restores when they were new. Apart from the request, which every
  -- call reads: with thousands of tables it is large.
  recorded jsonb,
  -- Where base and head are: user, host, port, database.
  base text not null,
  head text not null,
  -- The one that is compared, on both; the status may be in another one of head's.
  database text not null,
  -- What tells the two restores from any others: cluster, timeline and database of each. Empty
  -- until they were checked.
  restores text not null,
  warnings jsonb not null default '[]',
  -- Where the two restores ended, if their timeline histories could be read and agree.
  base_end_lsn pg_lsn,
  head_end_lsn pg_lsn,
  -- Whether they cover the gap: verdict (proven, violated, not_provable), why, and if violated by
  -- how many bytes of WAL.
  gap jsonb not null,
  -- By address, the event hubs of the recovery as they were when it first opened them: their
  -- partitions, and when they were made.
  hubs jsonb not null default '{}',
  created_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  -- Why it failed as a whole, or why it does not go on now; what a table failed of stands with the
  -- table.
  error text,
  -- When the queue message that plans or closes it was last sent; null: none is under way.
  sent_at timestamptz,
  -- Whether its objects on the servers stay when it has ended.
  keep_objects boolean not null default false,
  -- When it had ended and nothing of it was left on the two servers.
  cleaned_at timestamptz,
  -- Where the queues are by which an app drives it. Null: no app has taken it up.
  queues text,
  -- What the request came with, to know a repetition by.
  idempotency_key text unique,
  body jsonb
);

create table work_item (
  recovery_id uuid not null references recovery on delete cascade,
  number int not null,
  -- Items with the same one are claimed and leased together, each under an attempt of its own: small
  -- tables. It is the number of the first of them; of an item that is claimed alone, its own.
  batch int not null,
  schema_name text not null,
  table_name text not null,
  strategy text not null check (strategy in ('row-versions', 'content', 'full')),
  strategy_reason text not null,
  -- What is compared with what, and how head reads base.
  spec jsonb not null,
  -- Expected size in bytes, to weigh progress, and rows, if the planner has counted them.
  bytes bigint not null,
  rows bigint,
  state text not null default 'pending'
    check (state in ('pending', 'running', 'completed', 'failed')),
  -- Counts the claims. A worker may write only under the attempt that it was given.
  attempt int not null default 0,
  -- Which process has or had the item, and until when that process is known to be alive: while the
  -- item runs, another one may then take it over. Kept when the item ends, so that a process is seen
  -- between two items, too.
  lease_until timestamptz,
  worker uuid,
  -- When its queue message was last sent; in the future: when the item may be tried again, or of one
  -- that runs, when its message will come back. Null: no message is under way, and it may be worked on
  -- at once.
  sent_at timestamptz,
  -- How often in a row attempts at it failed without a checkpoint in between; one whose process died
  -- counts fourfold, since it may have died of this item and took others with it.
  failures int not null default 0,
  -- How far the item is: everything before is durable in every sink. Null: nothing yet.
  checkpoint jsonb,
  -- What was found up to the checkpoint.
  done jsonb,
  -- A fingerprint of the changes up to the checkpoint, and of all once it is completed.
  digest text,
  -- The sum of the hashes of the events that were sent for them, modulo 2^128 (docs/audit.md).
  events_digest numeric,
  -- Inserts and deletes that were found, whether they are sent or not, and the rows that the
  -- strategy passed, if it counts them; up to the checkpoint, and in all once the item is completed.
  account jsonb,
  -- What the recovery's sinks held at the checkpoint, by their place in the request. Null: not known.
  held jsonb,
  -- What was found so far, for those who watch; what counts once it is completed.
  inserts bigint not null default 0,
  updates bigint not null default 0,
  deletes bigint not null default 0,
  rows_compared bigint not null default 0,
  -- Time spent in the attempt that completed or failed it.
  seconds double precision,
  -- Whether `full` has found the same (--verify full).
  verified boolean not null default false,
  warnings jsonb not null default '[]',
  error text,
  primary key (recovery_id, number),
  check (state <> 'running' or lease_until is not null),
  check ((state = 'failed') = (error is not null))
);

-- What a worker looks for: the next batch that has open items.
create index work_item_open on work_item (recovery_id, batch, number)
  where state in ('pending', 'running');

-- How many are at work.
create index work_item_running on work_item (recovery_id, batch, number) where state = 'running';

-- The items as those who watch see them: of a batch that somebody has claimed, the items run one after
-- the other, and those behind the first one have not begun.
create view item_standing as
select i.*,
       case when i.state = 'running'
             and exists (select from work_item o
                          where o.recovery_id = i.recovery_id and o.batch = i.batch
                            and o.number < i.number and o.state = 'running')
            then 'pending' else i.state end as standing
  from work_item i;

-- The account of each table: how it came out.
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

-- The recovered events, for SQL users, audits and claim checks.
create table delta (
  recovery_id uuid not null,
  event_id uuid not null,
  schema_name text not null,
  table_name text not null,
  op text not null check (op in ('I', 'U', 'D')),
  -- The message key; null for a table without one.
  key json,
  -- The event as every other sink gets it.
  event json not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (recovery_id, event_id)
);

-- Plans that took longer than their caller waited, for whoever asks for them next.
create table asked_plan (
  -- Made of what was asked, and of which servers.
  id uuid primary key,
  -- The request's body.
  body text not null,
  asked_at timestamptz not null default clock_timestamp(),
  -- The process that makes it, and until when it counts as being at it.
  worker uuid not null,
  lease_until timestamptz not null,
  -- The answer, once it is made: an HTTP status, and the plan or why there is none.
  ended_at timestamptz,
  status int,
  answer text
);
