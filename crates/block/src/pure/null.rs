//! A disk of zeros that forgets what is written: for measuring everything before the disk.

use super::Immediate;
use crate::{
    AtomicLimits, Backend, Description, Engine, Error, Extent, ExtentState, Limits, Operation, Outcome, Rotation,
    Store, UnmapLimits, WriteCache,
};
use std::rc::Rc;
use std::sync::{Arc, PoisonError, RwLock};

/// The disk of zeros.
pub struct Null {
    limits: Arc<RwLock<Arc<Limits>>>,
}

impl Null {
    /// One with this many blocks of `block_length` bytes (512 or 4096).
    pub fn new(block_length: u32, blocks: u64) -> Arc<Null> {
        let limits = Limits {
            block_length,
            blocks,
            physical_block_length: block_length.max(4096),
            lowest_aligned_block: 0,
            optimal_transfer_length: 0,
            unmap: Some(UnmapLimits { granularity: block_length, alignment: 0, reads_zeros: true }),
            write_cache: WriteCache::None,
            read_only: false,
            rotation: Rotation::NonRotating,
            copies: true,
            cryptographic_erase: false,
            // What is forgotten is forgotten whole.
            atomic: Some(AtomicLimits { maximum: 128 << 10, granularity: block_length.max(4096) }),
        };
        Arc::new(Null { limits: Arc::new(RwLock::new(Arc::new(limits))) })
    }
}

impl Backend for Null {
    fn limits(&self) -> Arc<Limits> {
        self.limits.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn description(&self) -> Description {
        Description { kind: "null", address: format!("{} bytes", self.limits().capacity()) }
    }

    fn hand_over(&self) -> Result<crate::Estate, &'static str> {
        Ok(crate::Estate::default())
    }

    fn open(&self, _engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        let shared = self.limits.clone();
        Ok(Box::new(Immediate(move |request: &mut crate::Request| {
            request.check(&shared.read().unwrap_or_else(PoisonError::into_inner))?;
            match request.operation {
                Operation::Read => request.bytes_mut().fill(0),
                Operation::Extents => {
                    let (offset, length) = (request.offset, request.length);
                    return Ok(Outcome::Extents(vec![Extent { offset, length, state: ExtentState::Deallocated }]));
                }
                // The file might be shorter than is thought, which nobody would learn.
                Operation::Copy { .. } if request.origin.is_some() => {
                    return Err(Error::new(crate::ErrorKind::Unsupported));
                }
                _ => {}
            }
            Ok(Outcome::Done)
        })))
    }

    fn resize(&self, blocks: u64) -> Result<(), Error> {
        let limits = Limits { blocks, ..(*self.limits()).clone() };
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(limits);
        Ok(())
    }
}
