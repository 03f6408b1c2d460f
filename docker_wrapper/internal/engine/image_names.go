package engine

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"boincdocker/docker_wrapper/internal/job"
)

// withFullNames writes the names of images in a Dockerfile that engines may take for IDs in full: FROM, COPY --from and RUN
// --mount=from=. In FROM, ARGs that come before the first FROM are expanded.
func withFullNames(result *parser.Result, text []byte, s job.Source) []byte {
	r := &refuser{s: s, lex: shell.NewLex(result.EscapeToken), stages: []string{"scratch"}, args: newVariables()}
	lines := bytes.SplitAfter(text, []byte("\n"))
	replace := func(n *parser.Node, before, name, as string) {
		full := job.FullName(as)
		if full == as || slices.Contains(r.stages, strings.ToLower(as)) || n.StartLine < 1 || n.EndLine > len(lines) {
			return
		}
		step := bytes.Join(lines[n.StartLine-1:n.EndLine], nil)
		found := regexp.MustCompile(before + regexp.QuoteMeta(name) + `(?:[\s,]|$)`).FindSubmatchIndex(step)
		if found == nil {
			return
		}
		at := found[3] // the end of before
		lines[n.StartLine-1] = slices.Concat(step[:at], []byte(full), step[at+len(name):])
		for i := n.StartLine; i < n.EndLine; i++ {
			lines[i] = nil
		}
	}
	for _, n := range result.AST.Children {
		switch strings.ToLower(n.Value) {
		case "arg":
			r.step(n, n)
		case "from":
			if n.Next == nil {
				continue
			}
			if name, known := r.expand(n.Next.Value); known {
				replace(n, `(?i)^(\s*from\s(?:[\s\\`+"`"+`]|--\S+\s)*)`, n.Next.Value, name)
			}
			stage := "\x00" // no Dockerfile can contain this name
			if as := n.Next.Next; as != nil && as.Next != nil {
				stage = strings.ToLower(as.Next.Value)
			}
			r.stages = append(r.stages, stage)
		case "copy", "run":
			for _, f := range n.Flags {
				for _, m := range fromFlag.FindAllStringSubmatch(f, -1) {
					if !number.MatchString(m[1]) { // of a stage
						replace(n, `([=,]from=|--from=)`, m[1], m[1])
					}
				}
			}
		}
	}
	return bytes.Join(lines, nil)
}

// fromFlag matches the image in a flag of COPY or RUN.
var fromFlag = regexp.MustCompile(`(?:^--|,|=)from=([^,\s]+)`)
