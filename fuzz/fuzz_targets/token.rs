#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| dvx_fuzz::token::run(input));
