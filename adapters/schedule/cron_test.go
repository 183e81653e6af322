package schedule_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule"
)

func TestParseSchedule_ReadsWhatSpringReads(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 11, 22, 15, 0, 0, 0, time.UTC) // a Sunday
	for text, want := range map[string][2]string{
		"0 */5 * * * *":        {"2026-11-22T15:05:00Z", "2026-11-22T15:10:00Z"},
		"*/10 * * * * *":       {"2026-11-22T15:00:10Z", "2026-11-22T15:00:20Z"},
		"0 0 9-17 * * MON-FRI": {"2026-11-23T09:00:00Z", "2026-11-23T10:00:00Z"},
		"0 0 0 * * 7":          {"2026-11-29T00:00:00Z", "2026-12-06T00:00:00Z"},
		"0 0 0 13 * FRI":       {"2027-08-13T00:00:00Z", "2028-10-13T00:00:00Z"},
		"0 0 0 L * *":          {"2026-11-30T00:00:00Z", "2026-12-31T00:00:00Z"},
		"0 0 0 L-3 * *":        {"2026-11-27T00:00:00Z", "2026-12-28T00:00:00Z"},
		"0 0 0 LW * *":         {"2026-11-30T00:00:00Z", "2026-12-31T00:00:00Z"},
		"0 0 0 15W * *":        {"2026-12-15T00:00:00Z", "2027-01-15T00:00:00Z"},
		"0 0 0 ? * 5#2":        {"2026-12-11T00:00:00Z", "2027-01-08T00:00:00Z"},
		"0 0 0 ? * MON#1":      {"2026-12-07T00:00:00Z", "2027-01-04T00:00:00Z"},
		"0 0 0 ? * 5L":         {"2026-11-27T00:00:00Z", "2026-12-25T00:00:00Z"},
		"0 0 0 ? * THUL":       {"2026-11-26T00:00:00Z", "2026-12-31T00:00:00Z"},
		"0 0 0 29 FEB *":       {"2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"},
		"0 0 0 29 2 MON":       {"2044-02-29T00:00:00Z", "2072-02-29T00:00:00Z"},
		"@hourly":              {"2026-11-22T16:00:00Z", "2026-11-22T17:00:00Z"},
		"@midnight":            {"2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"},
		"PT5M":                 {"2026-11-22T15:05:00Z", "2026-11-22T15:10:00Z"},
		"7s":                   {"2026-11-22T15:00:01Z", "2026-11-22T15:00:08Z"},
		"90000":                {"2026-11-22T15:01:30Z", "2026-11-22T15:03:00Z"},
	} {
		timetable, err := schedule.ParseSchedule(text, nil)
		require.NoError(t, err, text)
		first := timetable.Next(from)
		require.Equal(t, want, [2]string{first.Format(time.RFC3339), timetable.Next(first).Format(time.RFC3339)}, text)
		require.Equal(t, first, timetable.Next(first.Add(-1)), text)
	}
}

func TestParseSchedule_ReadsTheFieldsInTheZone(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	timetable, err := schedule.ParseSchedule("0 30 2 * * *", berlin)
	require.NoError(t, err)
	next := timetable.Next(time.Date(2026, 11, 22, 15, 0, 0, 0, time.UTC))
	require.Equal(t, "2026-11-23T01:30:00Z", next.Format(time.RFC3339))
}

// The slot in the hour that the clocks leave out is the same one whenever the
// timetable is asked, or a node that asks late would miss it.
func TestParseSchedule_ASlotInTheHourLeftOutIsTheSameHoweverLateItIsAsked(t *testing.T) {
	t.Parallel()
	for zone, c := range map[string]struct{ schedule, before, want, after string }{
		"Europe/Berlin":    {"0 30 2 * * *", "2026-03-29T00:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"},
		"America/New_York": {"0 15 2 * * *", "2026-03-08T06:00:00Z", "2026-03-08T07:15:00Z", "2026-03-09T06:15:00Z"},
		"Asia/Tokyo":       {"0 30 2 * * *", "2026-03-28T17:00:00Z", "2026-03-28T17:30:00Z", "2026-03-29T17:30:00Z"}, // no change
	} {
		location, err := time.LoadLocation(zone)
		require.NoError(t, err)
		timetable, err := schedule.ParseSchedule(c.schedule, location)
		require.NoError(t, err)
		before, err := time.Parse(time.RFC3339, c.before)
		require.NoError(t, err)
		want, err := time.Parse(time.RFC3339, c.want)
		require.NoError(t, err)
		for asked := before; asked.Before(want); asked = asked.Add(time.Minute) {
			require.Equal(t, want, timetable.Next(asked), "%s at %s", zone, asked)
		}
		require.Equal(t, c.after, timetable.Next(want).Format(time.RFC3339), zone)
	}
}

func TestParseSchedule_RefusesWhatNeverComesOrIsNotClear(t *testing.T) {
	t.Parallel()
	for text, why := range map[string]string{
		"0 0 0 31 2 *":                 "never comes",
		"0 0 0 30 FEB ?":               "never comes",
		"0 0 0 31W 2 *":                "never comes",
		"0 5,10 * 31 4 *":              "", // hour * is fine, the date is not
		"*/5 * * * *":                  "has 5 fields",
		"0 0 * * * * *":                "has 7 fields",
		"60 * * * * *":                 "60",
		"0 0 0 ? * 1#6":                "1-5",
		"":                             "has 0 fields",
		"@every 5s":                    "has 2 fields",
		"@reboot":                      "must be one of",
		"@triggered":                   "must be one of",
		"TZ=Europe/Berlin 0 0 0 * * *": "has 7 fields",
		"CRON_TZ=UTC 0 0 0 * *":        "Zone",
		"PT0S":                         "at least 100ms",
		"5":                            "at least 100ms",
		"-5s":                          "has 1 fields",
		"0 0 0 * * L":                  "",
		"H * * * * *":                  "",
	} {
		_, err := schedule.ParseSchedule(text, nil)
		require.Error(t, err, text)
		require.ErrorContains(t, err, why, text)
	}
}

func TestParseDuration_ReadsISOGoAndMilliseconds(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"PT10S": 10 * time.Second, "pt10s": 10 * time.Second, "PT4M": 4 * time.Minute, "PT1H30M": 90 * time.Minute,
		"P1DT2H": 26 * time.Hour, "P2D": 48 * time.Hour, "PT0.5S": 500 * time.Millisecond, "PT1M0.25S": time.Minute + 250*time.Millisecond,
		"10s": 10 * time.Second, "4m30s": 270 * time.Second, "10000": 10 * time.Second, "0": 0, " 15m ": 15 * time.Minute, "PT0S": 0,
	} {
		d, err := schedule.ParseDuration(text)
		require.NoError(t, err, text)
		require.Equal(t, want, d, text)
	}
	for _, text := range []string{
		"", "P", "PT", "P1Y", "P1M", "P1W", "PT1D", "P1H", "PT1S1M", "PT1M1M", "PT1.5M", "PTS", "PT-1S", "-PT1S", "-1", "-5s", "+5s", "1.5", "10 s", "ten",
		"PT1S ", "P1DT", "PT1,5S", "PT..S", "9223372036854775807", "P999999999D", "NaN", "Inf", "1e3",
	} {
		if text == "PT1S " { // spaces around are no harm
			continue
		}
		_, err := schedule.ParseDuration(text)
		require.Error(t, err, text)
		require.ErrorContains(t, err, "PT10S", text)
	}
}
