package millrace.bench;

import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;

/** Measures Flink on the reference jobs and writes results beside Millrace's. */
public final class Main {
    private static final String USAGE = """
            flink-peer runs the reference jobs and Nexmark queries on Flink, in this process.

              list                   the jobs
              run JOB... [flags]     verifies and measures some, "all", "jobs" or "nexmark"

              -parallelism 1   tasks of each keyed operator
              -forward         keyed operators in the task of their source, without an exchange (parallelism 1)
              -events 0        events of each run; 0 is as many as take about a second
              -runs 5          how often; comparing takes at least 4
              -warmup 1        untimed runs of the same job before: so many at least, and up to 8 until the compilers take less than 5 %; 0 is none
              -verify-only     verifies with all events that results are known for, and measures nothing
              -quick           verifies with the fewest events that results are known for, and measures nothing
              -no-verify       does not verify before; runs of as many events as results are known for are verified all the same
              -name PATTERN    name of the scenarios, * is the job; default flink/p1/* and so on
              -out DIR         folder for the results, one JSON file per scenario
            """;

    private Main() {}

    public static void main(String[] args) throws Exception {
        Locale.setDefault(Locale.ROOT);
        try {
            command(args);
        } catch (IllegalArgumentException e) {
            System.err.println("flink-peer: " + e.getMessage());
            System.exit(1);
        }
        System.exit(0);
    }

    private static final class Flags {
        final List<String> words = new ArrayList<>();
        int parallelism = 1;
        boolean forward;
        long events;
        int runs = 5;
        int warmup = 1;
        boolean verifyOnly;
        boolean quick;
        boolean noVerify;
        String name;
        final String command;
        String out = "";

        Flags(String[] args) {
            command = "java " + String.join(" ", ManagementFactory.getRuntimeMXBean().getInputArguments()) + " -jar bench/peers/flink/target/flink-peer.jar " + String.join(" ", args);
            for (int i = 0; i < args.length; i++) {
                String[] parts = args[i].split("=", 2);
                String name = parts[0].replaceFirst("^--", "-");
                if (!name.startsWith("-")) {
                    words.add(args[i]);
                    continue;
                }
                if (name.equals("-forward")) {
                    forward = true;
                    continue;
                }
                if (name.equals("-verify-only")) {
                    verifyOnly = true;
                    continue;
                }
                if (name.equals("-quick")) {
                    quick = true;
                    continue;
                }
                if (name.equals("-no-verify")) {
                    noVerify = true;
                    continue;
                }
                String next = i + 1 < args.length ? args[i + 1] : null;
                if (name.equals("-warmup") && parts.length == 1 && (next == null || !next.matches("\\d+"))) {
                    continue; // once, as without
                }
                if (parts.length == 1 && next == null) {
                    throw new IllegalArgumentException(name + " needs a value");
                }
                String value = parts.length == 2 ? parts[1] : args[++i];
                switch (name) {
                    case "-parallelism" -> parallelism = Integer.parseInt(value);
                    case "-events" -> events = Long.parseLong(value);
                    case "-runs" -> runs = Integer.parseInt(value);
                    case "-warmup" -> warmup = Integer.parseInt(value);
                    case "-name" -> this.name = value;
                    case "-out" -> out = value;
                    default -> throw new IllegalArgumentException("there is no flag " + name + "\n\n" + USAGE);
                }
            }
            if (forward && parallelism != 1) {
                throw new IllegalArgumentException("-forward is for parallelism 1: more tasks need the exchange");
            }
            if (name == null) {
                name = "flink/p" + parallelism + (forward ? "-forward" : "") + "/*";
            } else if (!name.contains("*")) {
                throw new IllegalArgumentException("-name needs a * where the job's name stands");
            }
        }

        List<Scenario.Known> toVerify(Scenario s) {
            List<Scenario.Known> known = s.known();
            if (quick) {
                return List.of(known.stream().min(Comparator.comparingLong(Scenario.Known::events)).orElseThrow());
            }
            return noVerify ? List.of() : verifyOnly ? known : known.subList(0, 1);
        }
    }

    private static final int MOST_WARMUPS = 8;

    private static void command(String[] args) throws Exception {
        if (args.length == 0) {
            System.out.print(USAGE);
            return;
        }
        Flags f = new Flags(args);
        switch (f.words.isEmpty() ? "" : f.words.remove(0)) {
            case "list" -> scenarios().forEach(s -> System.out.printf("%-18s %s%n", s.name(), s.about()));
            case "run" -> run(f);
            default -> throw new IllegalArgumentException("the commands are list and run\n\n" + USAGE);
        }
    }

    static List<Scenario> scenarios() {
        List<Scenario> all = new ArrayList<>(Jobs.all());
        all.addAll(NexmarkScenarios.all());
        return all;
    }

    static List<Scenario> find(List<String> names) {
        List<Scenario> found = new ArrayList<>();
        for (String name : names) {
            List<Scenario> some = scenarios().stream().filter(s -> name.equals("all") || s.name().equals(name) || s.name().startsWith(name + "/")
                    || name.equals("jobs") && !s.name().contains("/")).toList();
            if (some.isEmpty()) {
                throw new IllegalArgumentException("there is no job " + name + ": see list");
            }
            found.addAll(some);
        }
        if (found.isEmpty()) {
            throw new IllegalArgumentException("run takes the names of jobs: see list");
        }
        return found;
    }

    private static void run(Flags f) throws Exception {
        List<Scenario> chosen = find(f.words);
        System.out.printf("%-30s %10s %12s %14s %6s %6s %10s %8s%n", "scenario", "events", "CPU us/event", "events/s", "GC %", "JIT %", "bytes/event", "RSS MiB");
        try (Cluster cluster = new Cluster(f.parallelism)) {
            for (Scenario s : chosen) {
                for (Scenario.Known k : f.toVerify(s)) {
                    verify(cluster, s, f, k);
                }
                if (!f.verifyOnly && !f.quick) {
                    measure(cluster, s, f);
                }
            }
        }
    }

    /** Fails unless the job gives exactly what is known of it. */
    private static void verify(Cluster cluster, Scenario s, Flags f, Scenario.Known k) throws Exception {
        Probe p = Probe.next();
        Scenario.Setup setup = new Scenario.Setup(k.events(), k.rate(), f.parallelism, f.forward, true);
        cluster.run(s.checkpoints(), env -> s.build(env, setup));
        must(s, s.problem(setup, p));
        System.out.printf("%-30s %10d verified: %d out, sum %.3f, checksum %016x%n", s.name(), k.events(), p.out(), p.sum(), p.checksum());
    }

    private static void measure(Cluster cluster, Scenario s, Flags f) throws Exception {
        long events = f.events > 0 ? f.events : s.events();
        String name = f.name.replace("*", s.name());
        Scenario.Setup setup = new Scenario.Setup(events, 0, f.parallelism, f.forward, false);
        List<ResultFile.Run> runs = new ArrayList<>();
        boolean warm = f.warmup == 0;
        for (int warmups = 0; runs.size() < f.runs;) {
            System.gc(); // what the run before has left is not this one's
            Probe p = Probe.next();
            Cluster.Checkpoints c = cluster.run(s.checkpoints(), env -> s.build(env, setup));
            must(s, s.problem(setup, p));
            Probe.Usage u = p.used();
            if (!warm) {
                warmups++;
                warm = warmups >= MOST_WARMUPS || warmups >= f.warmup && u.jit() < u.cpu() / 20;
                continue;
            }
            ResultFile.Run r = ResultFile.Run.of(events, p, c);
            runs.add(r);
            System.out.printf("%-30s %10d %12.3f %14.0f %6.1f %6.1f %10.0f %8d%s%n", name, events, r.cpu(), r.perSecond(), 100 * r.gc(), 100.0 * u.jit() / u.cpu(), r.bytes(),
                    r.rss() >> 20, s.checkpoints() ? "  " + c.n() + " checkpoints" : "");
        }
        if (!f.out.isEmpty()) {
            ResultFile.write(Path.of(f.out), new ResultFile.Result(name, s.about(), new ResultFile.Settings(0, 0, 0, events, f.runs), runs, f.command));
        }
    }

    private static void must(Scenario s, String problem) {
        if (problem != null) {
            throw new IllegalArgumentException(s.name() + " is wrong: " + problem);
        }
    }
}
