//! What happens in the shop before, in and after the gap.

use super::{Shop, rows};
use crate::traffic::Transaction;

impl Shop {
    /// What the consumer still sees.
    pub(crate) fn before_the_loss(&self) -> Vec<Transaction> {
        let Self { customers, orders, .. } = self;
        let new = orders / 200;
        vec![
            Transaction::insert(
                "",
                "shop.orders",
                rows::orders(new, *customers, "'placed'", "null"),
            ),
            Transaction::update(
                "",
                "shop.orders",
                format!("state = 'paid' where id > {orders} and id % 2 = 0"),
            ),
            Transaction::insert(
                "",
                "audit.event",
                rows::events(new, "'order.placed'", "2026-02-01"),
            ),
        ]
    }

    /// What downstream misses.
    pub(crate) fn in_the_gap(&self) -> Vec<Transaction> {
        let Self { customers, addresses, orders, lines, products, events, .. } = self;
        let new = orders * 3 / 100;
        // Above what was loaded and what the consumer saw come.
        let fresh = format!("id > {}", orders + orders / 200);
        vec![
            Transaction::insert(
                "orders come in, with lines and payments",
                "shop.orders",
                rows::orders(new, *customers, "'placed'", "'call before delivery'"),
            ),
            Transaction::insert(
                "",
                "shop.order_line",
                format!(
                    "insert into shop.order_line
                     select id, line, 'SKU-' || 1 + (id * line) % {products}, line, 9.90, 0.1
                       from shop.orders, generate_series(1, 2) line where {fresh}"
                ),
            ),
            Transaction::insert(
                "",
                "shop.payment",
                rows::payments(&format!("shop.orders where {fresh} and id % 4 > 0")),
            ),
            Transaction::update(
                "others are paid, then shipped: two updates of each row",
                "shop.orders",
                format!("state = 'paid', note = 'packed' where id % 20 = 3 and id <= {orders}"),
            ),
            Transaction::update(
                "",
                "shop.orders",
                format!("state = 'shipped', note = null where id % 20 = 3 and id <= {orders}"),
            ),
            Transaction::insert(
                "the audit log grows",
                "audit.event",
                rows::events(orders / 20, "'order.shipped'", "2026-02-02"),
            ),
            Transaction::update(
                "a careless batch job rewrites every product and changes none",
                "shop.product",
                "name = name".to_owned(),
            ),
            Transaction::update(
                "prices rise, for some products",
                "shop.product",
                "price = price * 1.05, attributes = attributes || '{\"sale\": false}'
                  where right(sku, 1) = '7'"
                    .to_owned(),
            ),
            Transaction::update(
                "weights are restated, 1.5 as 1.500: equal numbers that print differently",
                "shop.product",
                "weight = weight::numeric(12,3) where right(sku, 2) = '42'".to_owned(),
            ),
            Transaction::delete(
                "old orders go, with lines and payments",
                "shop.payment",
                format!("order_id % 400 = 7 and order_id <= {orders}"),
            ),
            Transaction::delete(
                "",
                "shop.order_line",
                format!("order_id % 400 = 7 and order_id <= {orders}"),
            ),
            Transaction::delete("", "shop.orders", format!("id % 400 = 7 and id <= {orders}")),
            Transaction::update(
                "order lines are renumbered: their key changes",
                "shop.order_line",
                format!("line = line + 10 where order_id % 500 = 1 and {lines} > 0"),
            ),
            Transaction::insert(
                "customers sign up",
                "shop.customer",
                rows::customers(customers / 100, "New customer"),
            ),
            Transaction::insert(
                "",
                "shop.address",
                rows::addresses(
                    addresses / 100,
                    &format!("{customers} + 1 + i % {}", customers / 100),
                ),
            ),
            Transaction::update(
                "customers ask to be forgotten",
                "shop.customer",
                format!(
                    "name = 'forgotten', email = '', newsletter = false, profile = null
                      where id % 200 = 5 and id <= {customers}"
                ),
            ),
            Transaction::delete("", "shop.address", "customer_id % 200 = 5".to_owned()),
            Transaction::insert(
                "carts are opened and thrown away",
                "shop.orders",
                rows::orders(orders / 200, *customers, "'cancelled'", "'cart'"),
            ),
            Transaction::delete(
                "",
                "shop.orders",
                "state = 'cancelled' and note = 'cart'".to_owned(),
            ),
            Transaction::delete(
                "the oldest twentieth of the audit log is purged",
                "audit.event",
                format!(
                    "at < timestamptz '2026-01-01 00:00:00Z' + {} * interval '1 second'",
                    events / 2 / 20
                ),
            ),
        ]
    }

    /// What the new slot delivers.
    pub(crate) fn after_the_return(&self) -> Vec<Transaction> {
        let Self { customers, orders, .. } = self;
        vec![
            Transaction::insert(
                "",
                "shop.customer",
                rows::customers(customers / 200, "Late customer"),
            ),
            Transaction::update(
                "",
                "shop.orders",
                format!("state = 'returned' where id % 300 = 4 and id <= {orders}"),
            ),
            Transaction::delete(
                "",
                "shop.payment",
                format!("order_id % 1000 = 9 and order_id <= {orders}"),
            ),
            Transaction::insert(
                "",
                "audit.event",
                rows::events(orders / 400, "'order.returned'", "2026-02-03"),
            ),
        ]
    }
}
