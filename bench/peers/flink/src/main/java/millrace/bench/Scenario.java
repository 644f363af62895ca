package millrace.bench;

import java.util.List;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/** Something that can be measured: a job over numbered events. */
public interface Scenario {
    /**
     * A setting of a run. The events are the scenario's own, or of another rate of event time where that is above 0. Forward keeps keyed operators in
     * the task of their source: no exchange, parallelism 1 only. Check has the sink make a checksum of the results, where the scenario has one.
     */
    record Setup(long events, double rate, int parallelism, boolean forward, boolean check) {}

    /** Events that the result is known for. */
    record Known(long events, double rate) {}

    /** As run and list have it: "B10k", "nexmark/q5". */
    String name();

    /** One line. */
    String about();

    /** How many events take about a second. */
    long events();

    /** Whether a checkpoint is taken every second. */
    default boolean checkpoints() {
        return false;
    }

    /** What its result is known for; the first is checked before anything is measured. */
    List<Known> known();

    /** Puts the job into an environment. */
    void build(StreamExecutionEnvironment env, Setup s);

    /** Says what is wrong with a result, or null, also where nothing is known. */
    String problem(Setup s, Probe got);
}
