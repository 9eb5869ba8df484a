//! Publications together.

use super::*;

const ALL: Operations = Operations::ALL;

fn operations(letters: &str) -> Operations {
    Operations {
        insert: letters.contains('i'),
        update: letters.contains('u'),
        delete: letters.contains('d'),
        truncate: letters.contains('t'),
    }
}

/// `t` (1), and `root` (10) with the partitions `leaf` (11) and `middle` (12), which has the
/// partition `low` (13).
struct World(Catalog);

impl World {
    fn new() -> Self {
        let relation = |name: &str, partitioned, ancestors: &[u32]| Publishable {
            name: TableName { schema: "s".into(), name: name.into() },
            partitioned,
            ancestors: ancestors.to_vec(),
            columns: ["a", "b"].map(str::to_owned).into(),
            generated: BTreeSet::from(["g".to_owned()]),
            members: BTreeMap::new(),
        };
        let relations = BTreeMap::from([
            (1, relation("t", false, &[])),
            (10, relation("root", true, &[])),
            (11, relation("leaf", false, &[10])),
            (12, relation("middle", true, &[10])),
            (13, relation("low", false, &[12, 10])),
        ]);
        Self(Catalog { publications: Vec::new(), relations })
    }

    /// A publication of these tables, each with a row filter unless that is empty.
    fn with(mut self, publish: &str, via_root: bool, of: &[(u32, &str)]) -> Self {
        let at = self.0.publications.len();
        let operations = operations(publish);
        self.0.publications.push(Publication { operations, via_root, generated: false });
        for &(oid, filter) in of {
            let filter = (!filter.is_empty()).then(|| filter.to_owned());
            let member = Member { filter, columns: None };
            self.0.relations.get_mut(&oid).unwrap().members.insert(at, member);
        }
        self
    }

    fn for_all(self, publish: &str, via_root: bool) -> Self {
        self.with(publish, via_root, &[1, 10, 11, 12, 13].map(|oid| (oid, "")))
    }

    fn published(&self) -> Published {
        self.0.published()
    }
}

impl Published {
    fn names(&self) -> Vec<&str> {
        self.tables.keys().map(|table| table.name.as_str()).collect()
    }

    fn of(&self, name: &str) -> &PublishedTable {
        &self.tables[&TableName { schema: "s".into(), name: name.into() }]
    }

    fn sent_as(&self, name: &str) -> Vec<&str> {
        let name = TableName { schema: "s".into(), name: name.into() };
        let tables = self.sent_as.get(&name).into_iter().flatten();
        tables.map(|table| table.name.as_str()).collect()
    }
}

#[test]
fn filters_of_one_operation_are_those_of_the_publications_that_publish_it() {
    let one = || World::new().with("iudt", false, &[(1, "x > 1")]);
    assert_eq!(one().published().of("t").filter.as_deref(), Some("x > 1"));
    for publish in ["t", ""] {
        let published = one().with(publish, false, &[(1, "")]).published();
        let table = published.of("t");
        assert_eq!(table.filter.as_deref(), Some("x > 1"), "{publish}");
        assert_eq!(table.filters_by_operation, None);
        assert_eq!(table.operations, ALL);
        let published = one().for_all(publish, true).published();
        assert_eq!(published.of("t").filter.as_deref(), Some("x > 1"), "{publish}");
    }
    let published = one().with("iudt", false, &[(1, "y")]).published();
    assert_eq!(published.of("t").filter.as_deref(), Some("(x > 1) or (y)"));
    assert_eq!(published.of("t").filters_by_operation, None);
    let published = one().with("ud", false, &[(1, "y")]).published();
    assert_eq!(published.of("t").filter.as_deref(), Some("(x > 1) or (y)"));
    assert_eq!(
        published.of("t").filters_by_operation.as_deref(),
        Some("inserts: x > 1; updates, deletes: (x > 1) or (y)")
    );
    assert_eq!(published.of("t").inserted_rows, "x > 1");
    let published = one().with("u", false, &[(1, "")]).published();
    assert_eq!(published.of("t").filter, None);
    assert_eq!(published.of("t").rows, "all rows");
    assert_eq!(
        published.of("t").filters_by_operation.as_deref(),
        Some("inserts, deletes: x > 1; updates: all rows")
    );
}

#[test]
fn a_table_of_which_no_rows_are_published_is_not_sent() {
    for publish in ["t", ""] {
        let published = World::new().with(publish, false, &[(1, "")]).published();
        assert!(published.tables.is_empty());
        assert_eq!(published.rowless.len(), 1);
    }
    let published = World::new().with("i", false, &[(1, "")]).published();
    assert_eq!(published.of("t").operations, operations("i"));
}

#[test]
fn a_partition_is_sent_as_the_topmost_table_that_is_published_through_its_root() {
    let by_itself = World::new().with("iudt", false, &[(10, "x > 1")]).published();
    assert_eq!(by_itself.names(), ["leaf", "low"]);
    assert_eq!(by_itself.of("leaf").filter, None, "a filter is its own table's");
    assert_eq!(by_itself.sent_as("root"), ["leaf", "low"]);
    assert_eq!(by_itself.sent_as("middle"), ["low"]);
    assert!(by_itself.sent_as("leaf").is_empty() && by_itself.raised.is_empty());

    let via_root = World::new().with("iudt", true, &[(10, "x > 1")]).published();
    assert_eq!(via_root.names(), ["root"]);
    assert_eq!(via_root.of("root").filter.as_deref(), Some("x > 1"));
    for partition in ["leaf", "middle", "low"] {
        assert_eq!(via_root.sent_as(partition), ["root"]);
    }
    assert!(via_root.raised.is_empty());

    let middle = World::new().with("iudt", true, &[(12, "x > 1")]);
    assert_eq!(middle.published().names(), ["middle"]);
    assert_eq!(middle.published().sent_as("root"), ["middle"]);
    let both = middle.with("iudt", true, &[(10, "y")]).published();
    assert_eq!(both.names(), ["root"]);
    assert_eq!(both.of("root").filter.as_deref(), Some("y"));
    assert_eq!(both.raised.values().flatten().count(), 1, "low alone");
}

#[test]
fn operations_are_those_of_all_levels_and_filters_those_of_the_topmost() {
    let published =
        World::new().with("i", true, &[(10, "x > 1")]).with("ud", false, &[(11, "y")]).published();
    assert_eq!(published.names(), ["root"]);
    let root = published.of("root");
    assert_eq!(root.operations, operations("i"));
    assert_eq!(
        root.filter.as_deref(),
        Some("(x > 1) or (tableoid operator(pg_catalog.=) any ('{11}'::pg_catalog.oid[]))")
    );
    assert_eq!(root.rows, "x > 1 and all rows of s.leaf");
    assert_eq!(root.extended.len(), 1);
    assert_eq!(
        root.filters_by_operation.as_deref(),
        Some("inserts: x > 1; updates, deletes of s.leaf: all rows")
    );
    assert_eq!(published.raised.values().flatten().count(), 1);

    // One that only truncates takes rows to the root, and their filter away.
    let published =
        World::new().with("iud", false, &[(11, "y")]).with("t", true, &[(10, "x > 1")]).published();
    let root = published.of("root");
    assert_eq!(
        root.filter.as_deref(),
        Some("tableoid operator(pg_catalog.=) any ('{11}'::pg_catalog.oid[])")
    );
    assert!(root.partitions_alone && root.filters_by_operation.is_none());
    assert_eq!(root.rows, "all rows of s.leaf");
    assert_eq!(published.sent_as("leaf"), ["root"]);
    assert!(published.sent_as("low").is_empty(), "nothing is sent of it");

    // Without a filter nothing is told apart by rows.
    let published =
        World::new().with("i", true, &[(10, "")]).with("ud", false, &[(11, "")]).published();
    assert_eq!(published.of("root").filter, None);
    assert_eq!(published.of("root").filters_by_operation, None);
}

#[test]
fn a_root_without_partitions_is_published_all_the_same() {
    let mut world = World::new().with("iudt", true, &[(10, "x")]);
    [11, 12, 13].iter().for_each(|oid| drop(world.0.relations.remove(oid)));
    assert_eq!(world.published().names(), ["root"]);
    let mut world = World::new().with("iudt", false, &[(10, "x")]);
    [11, 12, 13].iter().for_each(|oid| drop(world.0.relations.remove(oid)));
    assert!(world.published().tables.is_empty());
}

#[test]
fn column_lists_are_those_of_the_topmost_table() {
    let list = |columns: &[&str]| Some(columns.iter().map(|&name| name.to_owned()).collect());
    let mut world = World::new().with("iudt", true, &[(10, "")]).for_all("iudt", false);
    world.0.relations.get_mut(&10).unwrap().members.get_mut(&0).unwrap().columns = list(&["a"]);
    let published = world.published();
    assert_eq!(published.of("root").columns, list(&["a"]));
    assert!(!published.of("root").column_lists_differ);
    assert_eq!(published.of("t").columns, list(&["a", "b"]));
    let published = world.for_all("t", true).published();
    assert!(published.of("root").column_lists_differ, "also one that only truncates counts");
    assert_eq!(published.of("root").columns, list(&["a", "b"]));

    let mut world = World::new().with("iudt", false, &[(1, "")]);
    world.0.publications[0].generated = true;
    assert_eq!(world.published().of("t").columns, list(&["a", "b", "g"]));
    let both = world.with("iudt", false, &[(1, "")]).published();
    assert!(both.of("t").column_lists_differ);
}
