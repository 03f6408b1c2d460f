package resolve

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTarget(t *testing.T) {
	const prefix = "../../projects/p.org_x/"
	tests := []struct {
		name, in string
		want     string // "" is no link
	}{
		{"as the client writes it", "<soft_link>../../projects/p.org_x/in_0</soft_link>\n", prefix + "in_0"},
		{"no newline at the end", "<soft_link>../../projects/p.org_x/in_0</soft_link>", prefix + "in_0"},
		{"carriage return", "<soft_link>../../projects/p.org_x/in_0</soft_link>\r\n", prefix + "in_0"},
		{"white space around the target", "<soft_link> \t\v\fa b\r </soft_link>", "a b"},
		{"something before the tag", "\xef\xbb\xbf x<soft_link>a</soft_link>", "a"},
		{"any tag closes", "<soft_link>a<br/>", "a"},
		{"five entities", "<soft_link>&amp;&lt;&gt;&quot;&apos;</soft_link>", `&<>"'`},
		{"numbers are bytes", "<soft_link>&#32;&#65;&#195;&#169;&#255;</soft_link>", " Aé\xff"},
		{"numbers out of range", "<soft_link>&#0;&#10;&#31;&#256;&#065;&#x41;&#;</soft_link>", "&#0;&#10;&#31;&#256;&#065;&#x41;&#;"},
		{"one pass", "<soft_link>&amp;lt;&#38;amp;</soft_link>", "&lt;&amp;"},
		{"lone ampersands", "<soft_link>a&b&&amp</soft_link>", "a&b&&amp"},
		{"a decoded space is no white space", "<soft_link>&#32;</soft_link>", " "},
		{"second line", "x\n<soft_link>a</soft_link>\n", ""},
		{"NUL ends the line", "x\x00<soft_link>a</soft_link>", ""},
		{"empty", "", ""},
		{"empty target", "<soft_link></soft_link>", ""},
		{"blank target", "<soft_link> \r</soft_link>", ""},
		{"not closed", "<soft_link>a\n</soft_link>", ""},
		{"another tag", "<soft_links>a</soft_links>", ""},
		{"just short enough", "<soft_link>" + strings.Repeat("a", MaxLinkSize-12) + "<", strings.Repeat("a", MaxLinkSize-12)},
		{"too long", "<soft_link>" + strings.Repeat("a", MaxLinkSize-11) + "</soft_link>", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := Target([]byte(tt.in))
			if got != tt.want || ok != (tt.want != "") {
				t.Errorf("got %q, %v, want %q", got, ok, tt.want)
			}
		})
	}
}

func TestPath(t *testing.T) {
	slot := t.TempDir()
	t.Chdir(slot)
	link := "<soft_link>../../projects/p/in_0</soft_link>\n"
	for name, text := range map[string]string{"in": link, "sub/in": link, "data": "1 2 3\n", "absolute": "<soft_link>/data/in_0</soft_link>"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	inDot, inSlot := In("."), In(slot)
	up := filepath.Dir(filepath.Dir(slot))
	tests := []struct {
		name            string
		path, dot, slot string // what Path, In(".") and In(slot) should say
	}{
		{"in", "../../projects/p/in_0", "../../projects/p/in_0", up + "/projects/p/in_0"},
		{"sub/in", "../../projects/p/in_0", "../../projects/p/in_0", up + "/projects/p/in_0"},
		{"absolute", "/data/in_0", "/data/in_0", "/data/in_0"},
		{"data", "data", "data", slot + "/data"},
		{"data/in", "data/in", "data/in", slot + "/data/in"},
		{"sub", "sub", "sub", slot + "/sub"},
		{"none", "none", "none", slot + "/none"},
		{slot + "/data", slot + "/data", slot + "/data", slot + "/data"},
	}
	for _, tt := range tests {
		for _, way := range []struct {
			name    string
			resolve func(string) (string, error)
			want    string
		}{{"Path", Path, tt.path}, {`In(".")`, inDot, tt.dot}, {"In(slot)", inSlot, tt.slot}} {
			got, err := way.resolve(tt.name)
			if want := filepath.FromSlash(way.want); filepath.FromSlash(got) != want || err != nil {
				t.Errorf("%s(%q): got %q, %v, want %q", way.name, tt.name, got, err, want)
			}
		}
	}
	for _, resolve := range []func(string) (string, error){Path, inSlot} {
		if got, err := resolve(""); err == nil {
			t.Errorf(`resolve(""): got %q, want an error`, got)
		}
	}
}

// Whatever name the client wraps into a link comes out again.
func FuzzTarget(f *testing.F) {
	f.Add("in_0", "<soft_link>a</soft_link>\n")
	f.Add(`a&b<c>"d"'e'`, "<soft_link>&#195;&#169; &amp;lt;</soft_link>\r\nmore")
	f.Add("../../projects/p/x y", "<soft_link>&#99999999999999999999;&&;<")
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\xe9", "&#233;")
	f.Fuzz(func(t *testing.T, name, text string) {
		if got, ok := Target([]byte(text)); ok {
			if got == "" || len(got) > MaxLinkSize {
				t.Errorf("Target(%q) is %q", text, got)
			}
			if again, ok := Target([]byte(text + "\n<soft_link>b</soft_link>")); !ok || again != got {
				t.Errorf("more after %q changes %q to %q", text, got, again)
			}
		}
		name = strings.Trim(name, whitespace)
		link := "<soft_link>" + escape.Replace(name) + "</soft_link>\n"
		if name == "" || strings.ContainsAny(name, "\n\x00") || len(link) > MaxLinkSize {
			return
		}
		if got, ok := Target([]byte(link)); !ok || got != name {
			t.Errorf("Target(%q): got %q, %v, want %q", link, got, ok, name)
		}
	})
}
