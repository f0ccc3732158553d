//! Bytes in hexadecimal digits.

/// Writes two lower-case digits for each byte, as far as there is room. Nothing in here depends on the value in a
/// way that keeps the compiler from working on many digits at a time.
pub(crate) fn write(bytes: &[u8], digits: &mut [u8]) {
    let digit = |value: u8| value + if value < 10 { b'0' } else { b'a' - 10 };
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_written_as_the_standard_library_writes_it() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut digits = [0; 512];
        write(&bytes, &mut digits);
        let expected: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(std::str::from_utf8(&digits), Ok(expected.as_str()));
    }
}
