//! A multi-get of any number of keys is as many gets.

use lsm::{Db, Options};
use std::sync::Arc;
use vfs::MemFs;

/// Around the sizes at which a mask or a narrow integer would end.
const SIZES: [u32; 11] = [0, 1, 2, 255, 256, 257, 4095, 4096, 4097, 65_535, 65_536];

#[test]
fn any_number_of_keys_gives_as_many_answers() {
    let options = Options::default().memtable_size_bytes(256 << 10);
    let db = Db::builder("/db").fs(Arc::new(MemFs::new())).options(options).open().unwrap();
    // Every third key is missing; the rest lies in tables and memtable, in no order.
    let present = |n: u32| !n.is_multiple_of(3);
    for n in (0..66_000u32).map(|n| n * 7919 % 66_000).filter(|n| present(*n)) {
        db.put(n.to_be_bytes(), n.to_le_bytes()).unwrap();
    }
    for size in SIZES {
        let keys: Vec<[u8; 4]> = (0..size).map(|n| (n * 31 % 66_000).to_be_bytes()).collect();
        let values = db.multi_get(&keys).unwrap();
        assert_eq!(values.len(), keys.len());
        for (key, value) in keys.iter().zip(values) {
            let n = u32::from_be_bytes(*key);
            let expected = present(n).then(|| n.to_le_bytes().to_vec());
            assert_eq!(value.map(|v| v.to_vec()), expected, "key {n} of {size}");
        }
    }
}
