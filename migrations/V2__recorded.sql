-- What was recorded of the two restores when they were new. Apart from the request, which every step
-- reads: with thousands of tables it is large.
alter table recovery add column recorded jsonb;
