package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/supervise"
)

func TestForgotten(t *testing.T) {
	const whole = "<app_init_data>\n<result_name>wu_0</result_name>\n</app_init_data>\n"
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name     string
		init     string // "" for no such file
		episode  string // the container that it names; "" for no such file
		age      time.Duration
		noLabels bool
		want     bool
	}{
		{name: "being made: the episode isn't written yet", init: whole},
		{name: "being made: and the client is just writing init_data.xml anew"},
		{name: "being made: and the client has written half of init_data.xml", init: whole[:40]},
		{name: "being made: and init_data.xml has its first line only", init: "<app_init_data>\n", age: 24 * time.Hour},
		{name: "being made: after an earlier container of this job", init: whole, episode: "other", age: 24 * time.Hour},
		{name: "parked", init: whole, episode: "c", age: 24 * time.Hour},
		{name: "parked, and the client is just writing init_data.xml anew", episode: "c", age: 24 * time.Hour},
		{name: "the slot is another job's", init: "<app_init_data>\n<result_name>wu_1</result_name>\n</app_init_data>\n", want: true},
		{name: "the slot was cleared a moment ago", age: 59 * time.Minute},
		{name: "the slot was cleared", age: time.Hour, want: true},
		{name: "the slot was cleared, and the engine's clock is ahead", age: -time.Hour},
		{name: "not ours", age: 24 * time.Hour, noLabels: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			slot := t.TempDir()
			var err error
			if tt.init != "" {
				err = os.WriteFile(filepath.Join(slot, boincapi.InitDataFile), []byte(tt.init), 0o644)
			}
			if tt.episode != "" {
				err = errors.Join(err, supervise.Episode{Container: tt.episode}.Save(filepath.Join(slot, job.WrapperDir)))
			}
			if err != nil {
				t.Fatal(err)
			}
			c := &engine.Container{ID: "c", Made: now.Add(-tt.age), Labels: map[string]string{job.LabelSlot: slot, job.LabelResult: "wu_0"}}
			if tt.noLabels {
				c.Labels = nil
			}
			if got := forgotten(c, now); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
