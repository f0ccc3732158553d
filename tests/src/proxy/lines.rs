//! The lines of a streamed answer, taken apart and put together again.

/// An answer in chunks, on its way.
#[derive(Default)]
pub(super) struct Lines {
    unread: Vec<u8>,
    head_passed: bool,
    line: Vec<u8>,
}

impl Lines {
    /// What is to be sent for these bytes. Lines that are not complete are held back.
    pub(super) fn pass(&mut self, bytes: &[u8], change: &mut dyn FnMut(&str) -> Vec<String>) -> Vec<u8> {
        self.unread.extend_from_slice(bytes);
        let mut out = Vec::new();
        if !self.head_passed {
            let Some(end) = find(&self.unread, b"\r\n\r\n") else { return out };
            out.extend(self.unread.drain(..end + 4));
            self.head_passed = true;
            assert!(
                !out.starts_with(b"HTTP/1.1 200") || find(&out.to_ascii_lowercase(), b"chunked").is_some(),
                "watch streams come in chunks"
            );
        }
        while let Some((start, size)) = self.chunk() {
            if self.unread.len() < start + size + 2 {
                break;
            }
            if size == 0 {
                out.append(&mut self.unread);
                break;
            }
            self.line.extend_from_slice(&self.unread[start..start + size]);
            self.unread.drain(..start + size + 2);
            while let Some(end) = find(&self.line, b"\n") {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                for line in change(String::from_utf8_lossy(&line[..end]).as_ref()) {
                    out.extend_from_slice(format!("{:x}\r\n{line}\n\r\n", line.len() + 1).as_bytes());
                }
            }
        }
        out
    }

    /// Where the next chunk's content begins, and its length.
    fn chunk(&self) -> Option<(usize, usize)> {
        let end = find(&self.unread, b"\r\n")?;
        let text = std::str::from_utf8(&self.unread[..end]).ok()?;
        Some((end + 2, usize::from_str_radix(text, 16).ok()?))
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_exchanged_however_they_were_cut() {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = format!("{head}5\r\none\nt\r\n5\r\nwo\nth\r\n4\r\nree\n\r\n");
        for size in 1..answer.len() {
            let mut lines = Lines::default();
            let mut out = Vec::new();
            for bytes in answer.as_bytes().chunks(size) {
                out.extend(lines.pass(bytes, &mut |line| match line {
                    "two" => Vec::new(),
                    line => vec![line.to_owned(), "x".to_owned()],
                }));
            }
            let expected = format!("{head}4\r\none\n\r\n2\r\nx\n\r\n6\r\nthree\n\r\n2\r\nx\n\r\n");
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}
