-- Only adds. How an operation that failed is told to whoever asked for it: a problem document, as JSON.
ALTER TABLE operations ADD COLUMN problem TEXT;
