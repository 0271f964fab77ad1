//! The kinds `ram` and `null`: [`block::pure`] by address.

use crate::{Address, OpenError, Opened, StoreKind, StoreOption, parse_size};
use block::pure::{Null, Ram};

const BLOCK: StoreOption = StoreOption { name: "block", value: Some("512|4096"), help: "block length (512)" };

/// A disk in memory.
pub const RAM: StoreKind = StoreKind {
    name: "ram",
    summary: "a sparse disk in memory, lost when the process ends",
    example: "ram:1G",
    options: &[BLOCK],
    probe: |_| false,
    open: |address| {
        let (block_length, blocks) = shape(address)?;
        Ok(Opened { backend: Ram::new(block_length, blocks), created: true, identity: None })
    },
};

/// A disk of zeros.
pub const NULL: StoreKind = StoreKind {
    name: "null",
    summary: "reads zeros and forgets what is written; for measuring",
    example: "null:1T",
    options: &[BLOCK],
    probe: |_| false,
    open: |address| {
        let (block_length, blocks) = shape(address)?;
        Ok(Opened { backend: Null::new(block_length, blocks), created: true, identity: None })
    },
};

fn shape(address: &Address) -> Result<(u32, u64), OpenError> {
    let size = parse_size(&address.place).map_err(|why| OpenError::new(address.kind.name, why))?;
    let block_length = address.block_length()?.unwrap_or(512);
    Ok((block_length, address.blocks(size, block_length)?))
}

#[cfg(test)]
mod tests {
    use crate::open;

    #[test]
    fn memory_by_address() {
        let limits = open("ram:1M,block=4096").unwrap().backend.limits();
        assert_eq!((limits.block_length, limits.blocks), (4096, 256));
        assert_eq!(open("null:1T").unwrap().backend.limits().capacity(), 1 << 40);
        assert!(open("ram:much").unwrap_err().to_string().contains("'much' is no size"));
        assert!(open("ram:1000").unwrap_err().to_string().contains("size=1024 would be"));
    }
}
