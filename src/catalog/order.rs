//! Whether both servers have the rows of a table in one order of its key.

use super::key_order::{Collation, DependsOn, KeyOrder};
use super::{Column, Key, TablePair};

/// A key column with its orders on head and on base; `None` where a server has no btree on it.
type Ordered<'a> = (&'a Column, Option<&'a KeyOrder>, Option<&'a KeyOrder>);

impl TablePair {
    fn ordered_columns(&self) -> impl Iterator<Item = Ordered<'_>> {
        let key = match &self.table.key {
            Key::Columns(key) => key.as_slice(),
            Key::WholeRow => &[],
        };
        key.iter().map(|&at| {
            let column = &self.table.columns[at];
            let on_base = self.base.as_ref().unwrap_or(&self.head);
            (
                column,
                self.head.orders.get(&column.name),
                on_base.orders.get(&self.base_columns[at].name),
            )
        })
    }

    /// Whether both servers have the rows in one order of the key, so that ranges of keys hold the
    /// same rows on both. Or why that is not known.
    pub(crate) fn same_order(&self) -> Result<(), String> {
        if self.base.is_some() && !self.key_indexed_on_base {
            return Err("base has no index on its key".to_owned());
        }
        for (column, on_head, on_base) in self.ordered_columns() {
            let (Some(on_head), Some(on_base)) = (on_head, on_base) else {
                return Err(format!("no btree has key column {:?} on both servers", column.name));
            };
            let depends_on = on_head.depends_on.max(on_base.depends_on);
            if depends_on != DependsOn::Nothing {
                return Err(depends_on.reason(column));
            }
            if on_head.types != on_base.types {
                return Err(format!("key column {:?} changed its type", column.name));
            }
        }
        Ok(())
    }

    /// Whether the index on its key finds every row and lets no key in twice, whatever library it
    /// was made with. Or why that is not known.
    pub(crate) fn sound_index(&self) -> Result<(), String> {
        for (column, on_head, on_base) in self.ordered_columns() {
            let (Some(on_head), Some(on_base)) = (on_head, on_base) else {
                return Err(format!("no btree has key column {:?} on both servers", column.name));
            };
            let depends_on = on_head.depends_on.max(on_base.depends_on);
            if depends_on >= DependsOn::Library {
                return Err(depends_on.reason(column));
            }
        }
        Ok(())
    }

    /// What an operator should know of the collations that its key is sorted by.
    pub(crate) fn collation_warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = Vec::new();
        let mut warn = |warning: String| {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        };
        for (_, on_head, on_base) in self.ordered_columns() {
            let on_head = on_head.map_or(&[][..], |order| &order.collations);
            let on_base = on_base.map_or(&[][..], |order| &order.collations);
            for (side, collations) in [("base", on_base), ("head", on_head)] {
                for Collation { name, recorded, running } in collations {
                    let (Some(recorded), Some(running)) = (recorded, running) else { continue };
                    if recorded != running {
                        warn(format!(
                            "its key is sorted by collation {name:?}, whose version is recorded as \
                             {recorded} and is {running} on {side}: the index may be out of order, \
                             and is not used"
                        ));
                    }
                }
            }
            for Collation { name, running, .. } in on_head {
                let other = on_base.iter().find(|other| other.name == *name);
                if let Some(other) = other.filter(|other| other.running != *running) {
                    let version = |version: &Option<String>| {
                        version.clone().unwrap_or_else(|| "unknown".to_owned())
                    };
                    warn(format!(
                        "its key is sorted by collation {name:?}, whose version is {} on base and \
                         {} on head: its index is not used",
                        version(&other.running),
                        version(running),
                    ));
                }
            }
        }
        warnings
    }
}

impl DependsOn {
    fn reason(self, column: &Column) -> String {
        let name = &column.name;
        let on = match self {
            Self::Nothing => "its values alone",
            Self::Catalog => "names in the catalog",
            Self::Library => "a collation or another library",
            Self::ImplicitCast => {
                return format!(
                    "values of key column {name:?} cannot be compared by operators, since the \
                     database has an implicit cast from {}",
                    column.declared
                );
            }
        };
        format!("the order of key column {name:?} depends on {on}")
    }
}
