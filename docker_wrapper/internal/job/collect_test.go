package job

import (
	"slices"
	"strings"
	"testing"
	"time"

	"boincdocker/boincapi"
)

func TestChoose(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	got := func(name string, idle time.Duration, layers ...Layer) Got {
		return Got{Name: name, ID: "id of " + name, Used: now.Add(-idle), Layers: layers}
	}
	base := Layer{"base", 6}
	for _, tt := range []struct {
		name   string
		images []Got
		hurry  bool
		want   string
	}{
		{name: "nothing"},
		{name: "what is used stays", images: []Got{got("a", 29*day, Layer{"a", 10})}},
		{name: "what is unused for long goes", images: []Got{got("a", 31*day), got("b", day), got("c", 40*day)}, want: "c a"},
		{name: "within the budget", images: []Got{got("a", 2*day, Layer{"a", 5}), got("b", day, Layer{"b", 5})}},
		{name: "beyond the budget, longest unused first, no more than needed",
			images: []Got{got("a", day, Layer{"a", 5}), got("b", 3*day, Layer{"b", 5}), got("c", 2*day, Layer{"c", 5})}, want: "b"},
		{name: "a base that they share counts once", images: []Got{got("a", 2*day, base, Layer{"a", 2}), got("b", day, base, Layer{"b", 2})}},
		{name: "a base that another image needs frees nothing",
			images: []Got{got("a", 3*day, base, Layer{"a", 2}), got("b", 2*day, base, Layer{"b", 2}), got("c", day, base, Layer{"c", 2})}, want: "a"},
		{name: "a base goes with the last of its images",
			images: []Got{got("a", 3*day, base, Layer{"a", 2}), got("b", 2*day, base, Layer{"b", 2}), got("c", day, Layer{"c", 9})}, want: "a b"},
		{name: "what was used within the hour stays, whatever the budget", images: []Got{got("a", 59*time.Minute, Layer{"a", 50}), got("b", time.Hour, Layer{"b", 1})}, want: "b"},
		{name: "what is being made stays", images: []Got{{Name: "a", Used: now.Add(-50 * day)}}},
		{name: "what was used after now stays", images: []Got{got("a", -day, Layer{"a", 50})}},
		{name: "a step of a build", images: []Got{{ID: "x", Used: now.Add(-31 * day)}}, want: "x"},
		{name: "in a hurry all that may", images: []Got{got("a", time.Minute), got("b", day), got("c", 59*time.Second), {Name: "d", Used: now.Add(-day)}}, hurry: true, want: "b a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := slices.Clone(tt.images)
			var names []string
			for _, g := range (Collect{Days: 30, Bytes: 10}).Choose(tt.images, now, tt.hurry) {
				names = append(names, first(g.Name, g.ID))
			}
			if got := strings.Join(names, " "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			for i := range before {
				if tt.images[i].Name != before[i].Name {
					t.Errorf("the caller's list was changed: %v", tt.images)
				}
			}
		})
	}
}

func TestPlanCollect(t *testing.T) {
	const record = "/boinc/projects/.docker_wrapper_images.json"
	for _, tt := range []struct {
		policy string
		init   *boincapi.InitData
		want   *Collect
	}{
		{},
		{init: &boincapi.InitData{}},
		{init: &boincapi.InitData{BoincDir: "/boinc"}, want: &Collect{record, 30, 20e9}},
		{policy: "images_gb = 1.5\nimages_days = 7", init: &boincapi.InitData{BoincDir: "/boinc"}, want: &Collect{record, 7, 1.5e9}},
		{policy: "images_gb = 0\nimages_days = 0", init: &boincapi.InitData{BoincDir: "/boinc"}, want: &Collect{record, 0, 0}},
		{policy: "images_gb = inf\nimages_days = inf", init: &boincapi.InitData{BoincDir: "/boinc"}, want: &Collect{record, 1e9, 1e18}},
	} {
		p, err := ParsePolicy(PolicyFile, []byte(tt.policy))
		if err != nil {
			t.Fatal(err)
		}
		got := planCollect(Input{Init: tt.init, Policy: p})
		if (got == nil) != (tt.want == nil) || got != nil && *got != *tt.want {
			t.Errorf("%q: got %+v, want %+v", tt.policy, got, tt.want)
		}
	}
}
