# chains.pl [--limit N] IN OUT: for each line FROM TO of IN, the number between them that takes the most steps to reach
# 1, if an even number is halved and an odd one becomes three times itself plus 1. A number that needs more than N steps
# is passed over.
use strict;
use warnings;

my $limit = 1000;
if ($ARGV[0] eq '--limit') { (undef, $limit) = splice @ARGV, 0, 2 }
my ($in, $out) = @ARGV;

open my $ranges, '<', $in or die "$in: $!\n";
my @ranges = map { [split] } <$ranges>;
open my $results, '>', $out or die "$out: $!\n";

my $done = 0;
for (@ranges) {
	my ($from, $to) = @$_;
	my ($most, $of) = (-1, 'none');
	for my $start ($from .. $to) {
		my ($n, $steps) = ($start, 0);
		while ($n != 1 and $steps <= $limit) {
			$n = $n % 2 ? 3 * $n + 1 : $n / 2;
			$steps++;
		}
		($most, $of) = ($steps, $start) if $steps > $most and $steps <= $limit;
	}
	print $results "$from to $to: $of takes $most steps\n";
	open my $progress, '>', 'fraction_done' or die "fraction_done: $!\n";
	print $progress ++$done / @ranges, "\n";
}
close $results or die "$out: $!\n";
