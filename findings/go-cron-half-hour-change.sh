#!/usr/bin/env bash
# github.com/netresearch/go-cron v0.16.0 leaves a day out where the clocks change by
# half an hour. Australia/Lord_Howe goes back 30 minutes on 5 April 2026 and forward
# 30 minutes on 4 October 2026, both at 02:00. One would expect a daily schedule to
# have a time on every day. Seen: @daily has none on 6 April and on 5 October, the
# days after the changes; "0 0 3 * * *" has none on the two days of the change.
# Where the change is a whole hour (Europe/Berlin), no day is missing.
#
# The script prints the days without a time, and fails if they are others.
# Needs Go. What to do: run daily jobs in such a zone by a fixed rate, or in UTC.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >go.mod <<'END'
module finding

go 1.25

require github.com/netresearch/go-cron v0.16.0
END
cat >main.go <<'END'
package main

import (
	"fmt"
	"time"
	_ "time/tzdata"

	cron "github.com/netresearch/go-cron"
)

// missing lists the days of 2026 on which a daily schedule has no time.
func missing(zone, spec string) (days []string) {
	z, err := time.LoadLocation(zone)
	if err != nil {
		panic(err)
	}
	schedule, err := cron.NewParser(cron.Second | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor).Parse(spec)
	if err != nil {
		panic(err)
	}
	has := map[string]bool{}
	for t := schedule.Next(time.Date(2025, 12, 31, 12, 0, 0, 0, z)); t.Year() == 2026; t = schedule.Next(t) {
		has[t.Format("01-02")] = true
	}
	for d := time.Date(2026, 1, 1, 12, 0, 0, 0, z); d.Year() == 2026; d = d.AddDate(0, 0, 1) {
		if !has[d.Format("01-02")] {
			days = append(days, d.Format("01-02"))
		}
	}
	return days
}

func main() {
	for _, zone := range []string{"Australia/Lord_Howe", "Europe/Berlin"} {
		for _, spec := range []string{"@daily", "0 0 3 * * *"} {
			fmt.Println(zone, spec, missing(zone, spec))
		}
	}
}
END
go mod tidy >/dev/null 2>&1
go run . | tee seen
diff seen - <<'END'
Australia/Lord_Howe @daily [04-06 10-05]
Australia/Lord_Howe 0 0 3 * * * [04-05 10-04]
Europe/Berlin @daily []
Europe/Berlin 0 0 3 * * * []
END
echo "as described, go-cron v0.16.0"
