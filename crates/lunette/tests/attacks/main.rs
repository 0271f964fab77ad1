//! Attacks on the real daemon, bounded in count and time (reliability.md section 3): each is carried out beside a
//! session that means well and goes on, beside newcomers who get in, within bounded memory, and leaves nothing.

mod before_login;
mod bounds;
mod chap;
mod crowds;
mod in_session;
mod siege;
