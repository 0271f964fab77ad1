//! Block stores as local block devices: each front-end offers any [`block::Backend`] to the host.
