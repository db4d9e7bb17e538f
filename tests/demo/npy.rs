//! Matrices of float32 in NumPy's file format, read row by row.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A two-dimensional float32 array in a file.
pub struct Matrix {
    file: File,
    data_at: u64,
    pub rows: usize,
    pub dims: usize,
}

impl Matrix {
    /// Reads the header; the error is the end of a sentence that begins with the file's name.
    pub fn open(path: &Path) -> Result<Self, String> {
        let mut file = File::open(path).map_err(|e| format!("cannot be opened: {e}"))?;
        let length = file.metadata().map_err(|e| e.to_string())?.len();
        let mut start = [0; 8];
        file.read_exact(&mut start).map_err(|_| "is no .npy file")?;
        if &start[..6] != b"\x93NUMPY" {
            return Err("is no .npy file".to_owned());
        }
        // Version 1 has a header length of two bytes, later ones of four.
        let mut size = [0; 4];
        let width = if start[6] == 1 { 2 } else { 4 };
        file.read_exact(&mut size[..width])
            .map_err(|_| "ends within its header")?;
        let size = u64::from(u32::from_le_bytes(size));
        let mut header = String::new();
        file.by_ref()
            .take(size)
            .read_to_string(&mut header)
            .map_err(|_| "has an unreadable header")?;
        let (rows, dims) = shape(&header)?;
        let data_at = 8 + width as u64 + size;
        let wanted = (rows as u64)
            .checked_mul(dims as u64)
            .and_then(|n| n.checked_mul(4)?.checked_add(data_at));
        if wanted.is_none_or(|wanted| length < wanted) {
            return Err(format!("is cut short: it announces {rows} rows of {dims}"));
        }
        Ok(Self {
            file,
            data_at,
            rows,
            dims,
        })
    }

    /// Row `n`, counted from 0.
    pub fn row(&self, n: usize) -> std::io::Result<Vec<f32>> {
        let mut bytes = vec![0; self.dims * 4];
        let at = self.data_at + (n * self.dims * 4) as u64;
        self.file.read_exact_at(&mut bytes, at)?;
        let (numbers, _) = bytes.as_chunks::<4>();
        Ok(numbers.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }
}

/// Rows and columns from a header such as
/// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }`.
fn shape(header: &str) -> Result<(usize, usize), String> {
    let value = |key: &str| {
        let (_, after) = header.split_once(&format!("'{key}':"))?;
        Some(after.trim_start())
    };
    if !value("descr").is_some_and(|v| v.starts_with("'<f4'")) {
        return Err("does not hold float32; save it with array.astype('float32')".to_owned());
    }
    if !value("fortran_order").is_some_and(|v| v.starts_with("False")) {
        return Err("is in column order; save it with numpy.ascontiguousarray(array)".to_owned());
    }
    let sizes: Option<Vec<usize>> = value("shape")
        .and_then(|v| v.strip_prefix('(')?.split_once(')'))
        .and_then(|(sizes, _)| {
            sizes
                .split(',')
                .map(str::trim)
                .filter(|s| !s.is_empty())
                .map(|s| s.parse().ok())
                .collect()
        });
    match sizes.as_deref() {
        Some(&[rows, dims]) if dims > 0 => Ok((rows, dims)),
        _ => Err("is not two-dimensional; it needs one row for each message".to_owned()),
    }
}
