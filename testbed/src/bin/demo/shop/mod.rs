//! The shop: its tables, its rows, its days before, in and after the gap.

mod days;
mod rows;

use anyhow::{Result, ensure};
use deltacompare_testbed::{Production, Role};

/// The publication of all [`TABLES`].
pub(crate) const PUBLICATION: &str = "shop_changes";

/// Bytes that the servers take at least, and for each row of production.
const SPACE: u64 = 500 << 20;
const SPACE_PER_ROW: u64 = 1500;

/// One table of the shop.
pub(crate) struct Table {
    /// `schema.table`; needs no quotes.
    pub(crate) name: &'static str,
    /// The key's columns; none for a table without a key.
    pub(crate) key: &'static [&'static str],
}

pub(crate) const TABLES: [Table; 7] = [
    Table { name: "shop.customer", key: &["id"] },
    Table { name: "shop.address", key: &["id"] },
    Table { name: "shop.product", key: &["sku"] },
    Table { name: "shop.orders", key: &["id"] },
    Table { name: "shop.order_line", key: &["order_id", "line"] },
    Table { name: "shop.payment", key: &["id"] },
    Table { name: "audit.event", key: &[] },
];

/// How much of everything there is.
pub(crate) struct Shop {
    customers: u64,
    addresses: u64,
    products: u64,
    orders: u64,
    lines: u64,
    payments: u64,
    events: u64,
}

impl Shop {
    /// A shop with this many rows in all.
    pub(crate) fn of(rows: u64) -> Self {
        let orders = rows / 5;
        let (customers, addresses, products) = (rows * 8 / 100, rows / 10, rows * 2 / 100);
        let (payments, events) = (rows * 15 / 100, rows / 10);
        let lines = rows - orders - customers - addresses - products - payments - events;
        Self { customers, addresses, products, orders, lines, payments, events }
    }

    pub(crate) fn rows(&self) -> u64 {
        self.customers
            + self.addresses
            + self.products
            + self.orders
            + self.lines
            + self.payments
            + self.events
    }

    /// Whether the temporary folder has room for production, its backup, its WAL and two restores.
    pub(crate) fn require_space(&self) -> Result<()> {
        let folder = std::env::temp_dir();
        let file_system = rustix::fs::statvfs(&folder)?;
        let free = file_system.f_bavail * file_system.f_frsize;
        let needed = SPACE + self.rows() * SPACE_PER_ROW;
        ensure!(
            free >= needed,
            "{} has {} MB free and {} MB are needed: make room, set TMPDIR to another folder, or \
             ask for fewer --rows",
            folder.display(),
            free >> 20,
            needed >> 20
        );
        Ok(())
    }

    /// Creates the tables, as the owner of the database, and fills them.
    pub(crate) async fn load(&self, production: &Production) -> Result<()> {
        let Self { customers, addresses, products, orders, lines, payments, events } = self;
        let statements = [
            include_str!("tables.sql").to_owned(),
            rows::customers(*customers, "Customer"),
            rows::addresses(*addresses, &format!("1 + i % {customers}")),
            format!(
                "insert into shop.product
                 select 'SKU-' || i, 'Product ' || i, (i % 9000 + 99) / 100.0, (i % 40 + 5) / 10.0,
                        case when i % 3 > 0 then array['tag' || i % 7, 'with \"quotes\"', null] end,
                        jsonb_build_object('colour', i % 5, 'sizes', jsonb_build_array(1, 2.50, 'L')),
                        i % 50 = 0
                   from generate_series(1, {products}) i"
            ),
            rows::orders(*orders, *customers, "'paid'", "null"),
            format!(
                "insert into shop.order_line
                 select 1 + i % {orders}, 1 + i / {orders}, 'SKU-' || 1 + i % {products}, 1 + i % 4,
                        (i % 9000 + 99) / 100.0, case when i % 10 = 0 then i % 7 / 10.0::float8 end
                   from generate_series(0, {lines} - 1) i"
            ),
            rows::payments(&format!("generate_series(1, {payments}) id")),
            rows::events(*events, "'order.viewed'", "2026-01-01"),
            "create index on shop.orders (customer_id);
             create index on shop.address (customer_id);
             create index on shop.payment (order_id);
             alter table shop.orders add foreign key (customer_id) references shop.customer;
             alter table shop.address add foreign key (customer_id) references shop.customer;
             alter table shop.order_line add foreign key (order_id) references shop.orders;
             alter table shop.payment add foreign key (order_id) references shop.orders"
                .to_owned(),
            format!(
                "create publication {PUBLICATION} for table {}",
                TABLES.map(|table| table.name).join(", ")
            ),
            "analyze".to_owned(),
        ];
        let connection = production.connect_as(Role::Admin).await?;
        for statement in statements {
            connection.sql(&statement).await?;
        }
        connection.close().await?;
        // So that the backup need not carry the load's WAL.
        production.sql("checkpoint").await
    }
}
