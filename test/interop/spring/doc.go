// Package spring holds Java programs on Spring Kafka, and the tests that show by
// them that dead letters pass between Millrace and Spring in both directions.
package spring
