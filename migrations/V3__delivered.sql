-- What the recovery's sinks held at the checkpoint, by their place in the request. Null: not known.
alter table work_item add column held jsonb;

-- By address, the event hubs of the recovery as they were when it first opened them: their
-- partitions, and when they were made.
alter table recovery add column hubs jsonb not null default '{}';
