//! `kas3 ledger show`: how far each partition is, from the heads.
