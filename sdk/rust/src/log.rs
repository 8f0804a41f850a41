//! Log lines of functions: `pelton::log::info!("seen {n}")`. They appear in the operator's log.

use std::fmt;

pub use crate::host::Level;

/// Writes one line.
pub fn write(level: Level, text: fmt::Arguments<'_>) {
    match text.as_str() {
        Some(plain) => crate::host::write(level, plain),
        None => crate::host::write(level, &text.to_string()),
    }
}

/// Logs what people must look at.
#[macro_export]
#[doc(hidden)]
macro_rules! __log_error { ($($arg:tt)+) => { $crate::log::write($crate::log::Level::Error, ::core::format_args!($($arg)+)) } }
/// Logs what may become a trouble.
#[macro_export]
#[doc(hidden)]
macro_rules! __log_warn { ($($arg:tt)+) => { $crate::log::write($crate::log::Level::Warn, ::core::format_args!($($arg)+)) } }
/// Logs what is good to know.
#[macro_export]
#[doc(hidden)]
macro_rules! __log_info { ($($arg:tt)+) => { $crate::log::write($crate::log::Level::Info, ::core::format_args!($($arg)+)) } }
/// Logs what helps to find an error.
#[macro_export]
#[doc(hidden)]
macro_rules! __log_debug { ($($arg:tt)+) => { $crate::log::write($crate::log::Level::Debug, ::core::format_args!($($arg)+)) } }

pub use crate::{
    __log_debug as debug, __log_error as error, __log_info as info, __log_warn as warn,
};
