//! Sample orders: the same ones every time.

use serde::Serialize;

/// The topic.
pub(super) const TOPIC: &str = "orders";
/// The first order's time: 2026-01-01T09:00:00Z, in milliseconds.
const FIRST_MS: i64 = 1_767_258_000_000;
/// Between the first and the last order.
const HOURS: i64 = 3;

const ITEMS: [(&str, u32); 6] =
    [("coffee beans", 1290), ("tea, green", 740), ("mug \"kas\"", 900), ("filter papers", 350), ("crème brûlée", 620), ("grinder", 8900)];

/// An order.
pub(super) struct Order {
    /// Key: the customer.
    pub(super) key: String,
    /// JSON.
    pub(super) value: String,
    /// Milliseconds since the epoch.
    pub(super) timestamp_ms: i64,
}

/// Order `number` of `total`.
pub(super) fn order(number: u64, total: u64) -> Order {
    let random = mixed(number);
    let timestamp_ms = FIRST_MS + (HOURS * 3_600_000) * i64::try_from(number).unwrap_or(0) / i64::try_from(total.max(1)).unwrap_or(1);
    let (item, cents) = ITEMS[(random % ITEMS.len() as u64) as usize];
    let (customer, quantity) = (random >> 8 & 0xfff, 1 + (random >> 24) % 4);
    let key = format!("customer-{customer:04}");
    let placed = jiff::Timestamp::from_millisecond(timestamp_ms).map_or_else(|_| String::new(), |time| time.to_string());
    let fields = Fields { order: number, customer: &key, item, quantity, cents: u64::from(cents) * quantity, placed };
    let value = serde_json::to_string(&fields).unwrap_or_default();
    Order { key, value, timestamp_ms }
}

#[derive(Serialize)]
struct Fields<'a> {
    order: u64,
    customer: &'a str,
    item: &'a str,
    quantity: u64,
    cents: u64,
    placed: String,
}

/// A number whose bits have nothing to do with each other (SplitMix64).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_fit_the_embedded_broker_and_fill_three_hours() {
        let total = *super::super::RECORDS.end();
        let bytes: usize = (0..total).map(|number| order(number, total)).map(|order| order.key.len() + order.value.len() + 16).sum();
        let partitions = super::super::PARTITIONS.unsigned_abs() as usize;
        assert!(bytes / partitions < 4 << 20, "{} a partition, the broker keeps 5 MiB", bytes / partitions);
        assert!(order(0, total).value.contains("2026-01-01T09:00:00Z"));
        assert!(order(total - 1, total).value.contains("T11:59"));
    }
}
