//! Tables in Markdown.

/// A table whose first column is text and whose other columns are numbers.
pub struct Table {
    columns: usize,
    text: String,
}

impl Table {
    pub fn new(header: &[&str]) -> Self {
        let rule: Vec<&str> = (0..header.len())
            .map(|n| if n == 0 { "---" } else { "---:" })
            .collect();
        let mut table = Self {
            columns: header.len(),
            text: String::new(),
        };
        table.line(header);
        table.line(&rule);
        table
    }

    pub fn row(&mut self, cells: &[String]) {
        let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
        self.line(&cells);
    }

    fn line(&mut self, cells: &[&str]) {
        assert_eq!(cells.len(), self.columns, "{cells:?}");
        self.text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }

    /// The table with a heading above it.
    pub fn under(&self, heading: &str) -> String {
        format!("## {heading}\n\n{}\n", self.text)
    }
}
