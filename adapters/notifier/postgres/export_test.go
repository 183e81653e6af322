package postgres

// SelectStatistics is the query that EXPLAIN is asked about.
const SelectStatistics = selectStatistics
