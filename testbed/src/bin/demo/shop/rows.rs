//! SQL that makes rows.

pub(super) fn customers(rows: u64, name: &str) -> String {
    format!(
        "insert into shop.customer (external_id, name, email, newsletter, profile, since)
         select md5('{name}' || i)::uuid, '{name} ' || i, 'c' || i || '@example.com', i % 3 = 0,
                case when i % 4 > 0 then jsonb_build_object('size', i % 10, 'vip', i % 90 = 0) end,
                timestamptz '2024-01-01 00:00:00Z' + i * interval '7 minutes 0.25 seconds'
           from generate_series(1, {rows}) i"
    )
}

pub(super) fn addresses(rows: u64, customer: &str) -> String {
    format!(
        "insert into shop.address (customer_id, lines, city, country)
         select {customer}, array[i || ' High Street', 'Flat ' || i % 9], 'Zürich',
                (array['CH', 'DE', 'IN'])[1 + i % 3]
           from generate_series(1, {rows}) i"
    )
}

pub(super) fn orders(rows: u64, customers: u64, state: &str, note: &str) -> String {
    format!(
        "insert into shop.orders (customer_id, state, total, placed_at, note)
         select 1 + (i * 7) % {customers}, {state}, i % 50000 / 100.0,
                timestamptz '2026-01-01 00:00:00Z' + i * interval '11 seconds', {note}
           from generate_series(1, {rows}) i"
    )
}

pub(super) fn payments(orders: &str) -> String {
    format!(
        "insert into shop.payment
         select md5('payment' || id)::uuid, id,
                (array['card', 'invoice', 'wallet'])[1 + id % 3]::shop.payment_method,
                id % 50000 / 100.0, timestamptz '2026-01-02 00:00:00Z' + id * interval '11 seconds'
           from {orders}"
    )
}

/// Every row twice, two a second from `from` on.
pub(super) fn events(rows: u64, action: &str, from: &str) -> String {
    format!(
        "insert into audit.event
         select timestamptz '{from} 00:00:00Z' + i / 2 * interval '1 second',
                'user' || i / 2 % 100, {action}, jsonb_build_object('order', i / 2, 'ok', true)
           from generate_series(0, {rows} - 1) i"
    )
}
