package session

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
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
				err = errors.Join(err, writeEpisode(filepath.Join(slot, job.WrapperDir), Episode{Container: tt.episode}))
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

// Labels alone don't make a container a wrapper's: an image's maker writes them as well, and so does the owner.
func TestWrappers(t *testing.T) {
	key := Key("key")
	labels := func(change func(map[string]string)) map[string]string {
		l := map[string]string{job.LabelDataDir: "/d", job.LabelProject: "p", job.LabelResult: "r", job.LabelSlot: "/d/slots/0"}
		l[job.LabelProof] = key.container("boinc_p_r", l)
		change(l)
		return l
	}
	for _, tt := range []struct {
		name, container string
		labels          map[string]string
		want            bool
	}{
		{"a job's", "boinc_p_r", labels(func(map[string]string) {}), true},
		{"of a helper", "boinc_p_r_owner", labels(func(map[string]string) {}), true},
		{"of a trial", "boinc_p_r_trial", labels(func(map[string]string) {}), true},
		{"made from the image of a job's container", "mine", labels(func(map[string]string) {}), false},
		{"no proof", "boinc_p_r", labels(func(l map[string]string) { delete(l, job.LabelProof) }), false},
		{"an empty proof", "boinc_p_r", labels(func(l map[string]string) { l[job.LabelProof] = "" }), false},
		{"of another key", "boinc_p_r", labels(func(l map[string]string) { l[job.LabelProof] = Key("x").container("boinc_p_r", l) }), false},
		{"with another slot", "boinc_p_r", labels(func(l map[string]string) { l[job.LabelSlot] = "/d/slots/1/fifo" }), false},
		{"with another result", "boinc_p_r", labels(func(l map[string]string) { l[job.LabelResult] = "s" }), false},
		{"nothing at all", "boinc_p_r", nil, false},
	} {
		if got := madeByWrapper(&engine.Container{Name: tt.container, Labels: tt.labels}, key); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}
