package job

import (
	"slices"
	"testing"
	"time"
)

// Each row decides a case, which would come out differently without it.
func TestWhose(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	after := func(d time.Duration) time.Time { return began.Add(d) }
	const end = time.Hour
	// ended is a container that ran for an hour.
	ended := func(code int, w Witness) Exit {
		return Exit{Code: code, StartedAt: began, FinishedAt: after(end), Witness: w}
	}
	seen, stopped := Witness{SawEnd: true}, Witness{EndsJobs: true}
	cases := map[string][]struct {
		x Exit
		n Notes
	}{
		"the wrapper was killed while it restored a checkpoint": {
			{ended(128, seen), Notes{None: true, Checkpoint: true}},
		},
		"parked before its end: what is paused or stopped doesn't end by itself": {
			{ended(1, seen), Notes{Ours: true, Parked: after(end - time.Minute)}},
			{ended(0, seen), Notes{Ours: true, Parked: after(end)}},
		},
		"the computer was started since, and the code is a signal's": {
			{ended(143, seen), Notes{Ours: true, BootThen: "a", BootNow: "b"}},
		},
		"the computer was started since, and there is a checkpoint": {
			{ended(0, seen), Notes{Ours: true, BootThen: "a", BootNow: "b", Checkpoint: true}},
		},
		"began before the computer was started and ended after": {
			{ended(1, seen), Notes{BootTime: after(end / 2)}},
		},
		"out of memory": {
			{Exit{Code: 137, OOMKilled: true, StartedAt: began, FinishedAt: after(end), Witness: stopped}, Notes{}},
		},
		"never started":      {{Exit{Code: 127, Witness: stopped}, Notes{}}},
		"no time of its end": {{Exit{StartedAt: began}, Notes{}}},
		"asked for a checkpoint before it could handle the signal": {
			{Exit{Code: 138, StartedAt: began, FinishedAt: after(29 * time.Second), Witness: Witness{SawEnd: true, Request: true}}, Notes{}},
		},
		"the engine keeps no events": {
			{ended(137, Witness{NoEvents: true, EndsJobs: true}), Notes{}},
		},
		"soon after a signal": {
			{ended(0, Witness{SawEnd: true, Signaled: after(end - 29*time.Second)}), Notes{}},
			{ended(143, Witness{SawEnd: true, Signaled: after(end - time.Second), AnySignal: true}), Notes{}},
			{ended(143, Witness{SawEnd: true, Signaled: after(end + time.Second), AnySignal: true}), Notes{}}, // reported after it was sent
		},
		"long after a signal": {
			{ended(143, Witness{EndsJobs: true, Signaled: after(end - 31*time.Second)}), Notes{}},
			{ended(143, Witness{StopUntold: true, Signaled: after(end - 3*time.Second), AnySignal: true}), Notes{}},
		},
		"SIGTERM's code from an engine that doesn't tell of stops": {
			{ended(143, Witness{SawEnd: true, StopUntold: true}), Notes{}},
		},
		"stopped by a user":      {{ended(0, Witness{SawEnd: true, StoppedByUser: true}), Notes{}}},
		"the engine saw the end": {{ended(137, Witness{SawEnd: true, EndsJobs: true}), Notes{}}},
		"the engine doesn't end jobs when it is stopped": {
			{ended(137, Witness{}), Notes{}},
		},
		"the engine was stopped, and the code is one that engines cause": {
			{ended(143, stopped), Notes{}}, {ended(137, stopped), Notes{}}, {ended(255, stopped), Notes{}},
		},
		"while the engine was being stopped": {
			{ended(0, Witness{EndsJobs: true, AwaySince: after(end - 16*time.Second)}), Notes{}},
			{ended(1, Witness{EndsJobs: true, AwaySince: after(end + time.Second)}), Notes{}},
		},
	}
	for i, r := range whoseRows {
		t.Run(r.name, func(t *testing.T) {
			without := slices.Delete(slices.Clone(whoseRows), i, i+1)
			for _, c := range cases[r.name] {
				if got := Whose(c.x, c.n); got != r.verdict {
					t.Errorf("%+v, %+v: got %v, want %v", c.x, c.n, got, r.verdict)
				}
				if got := decide(without, c.x, c.n); got == r.verdict {
					t.Errorf("%+v, %+v: without the row it is %v, too", c.x, c.n, got)
				}
			}
			if len(cases[r.name]) == 0 {
				t.Error("no case")
			}
			delete(cases, r.name)
		})
	}
	for name := range cases {
		t.Errorf("no row is called %q", name)
	}
}

// What no row matches, or none may, is the job's end.
func TestWhoseIsJobs(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	end := began.Add(time.Hour)
	seen, stopped := Witness{SawEnd: true}, Witness{EndsJobs: true}
	for name, c := range map[string]struct {
		x Exit
		n Notes
	}{
		"asked for a checkpoint long after its start": {Exit{Code: 138, Witness: Witness{SawEnd: true, Request: true}}, Notes{}},
		"an engine that saw it":                       {Exit{Code: 143, Witness: seen}, Notes{}},
		"an engine that was stopped":                  {Exit{Code: 1, Witness: stopped}, Notes{}},
		"before the engine was stopped":               {Exit{Witness: Witness{EndsJobs: true, AwaySince: end.Add(2 * time.Second)}}, Notes{}},
		"long after the engine was stopped":           {Exit{Witness: Witness{EndsJobs: true, AwaySince: end.Add(-17 * time.Second)}}, Notes{}},
		"live restore":                                {Exit{Witness: Witness{EndsJobs: true, AwaySince: end, LiveRestore: true}}, Notes{}},
		"stops untold":                                {Exit{Code: 137, Witness: Witness{StopUntold: true}}, Notes{}},
		"parked after its end":                        {Exit{Witness: seen}, Notes{Ours: true, Parked: end.Add(1)}},
		"another container was parked":                {Exit{Witness: seen}, Notes{Parked: began, Checkpoint: true}},
		"the same boot":                               {Exit{Code: 143, Witness: seen}, Notes{Ours: true, BootThen: "a", BootNow: "a", Checkpoint: true}},
		"unknown boot then":                           {Exit{Code: 143, Witness: seen}, Notes{Ours: true, BootNow: "a", Checkpoint: true}},
		"unknown boot now":                            {Exit{Code: 143, Witness: seen}, Notes{Ours: true, BootThen: "a", Checkpoint: true}},
		"another boot, of another container":          {Exit{Code: 143, Witness: seen}, Notes{BootThen: "a", BootNow: "b", Checkpoint: true}},
		"another boot, code 128":                      {Exit{Code: 128, Witness: seen}, Notes{Ours: true, BootThen: "a", BootNow: "b"}},
		"none noted, no checkpoint":                   {Exit{Code: 128, Witness: seen}, Notes{None: true}},
		"over the boot, code 0":                       {Exit{Witness: seen}, Notes{BootTime: end.Add(-1)}},
		"over the boot, out of memory":                {Exit{Code: 137, OOMKilled: true, Witness: seen}, Notes{BootTime: end.Add(-1)}},
		"since the boot":                              {Exit{Code: 1, Witness: seen}, Notes{BootTime: began}},
		"ended before the boot":                       {Exit{Code: 1, Witness: seen}, Notes{BootTime: end}},
	} {
		c.x.StartedAt, c.x.FinishedAt = began, end
		if got := Whose(c.x, c.n); got != ByJob {
			t.Errorf("%s: got %v, want %v", name, got, ByJob)
		}
	}
}
