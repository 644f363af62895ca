package millrace.bench;

import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/** Something that can be measured: a job over numbered events. */
interface Scenario {
    /** A setting of a run. Forward keeps keyed operators in the task of their source: no exchange, parallelism 1 only. */
    record Setup(long events, int parallelism, boolean forward) {}

    /** As -run and list have it: "B10k", "nexmark/q5". */
    String name();

    /** One line. */
    String about();

    /** How many events take about a second. */
    long events();

    /** Whether a checkpoint is taken every second. */
    default boolean checkpoints() {
        return false;
    }

    /** How many events its result is verified for before it is measured. */
    long known();

    /** Puts the job into an environment. */
    void build(StreamExecutionEnvironment env, Setup s);

    /** Says what is wrong with the result of so many events, or null. */
    String problem(long events, Probe got);

    /** Puts the job for verification into an environment, where that is another one. */
    default void buildKnown(StreamExecutionEnvironment env, int parallelism, boolean forward) {
        build(env, new Setup(known(), parallelism, forward));
    }

    /** Says what is wrong with the result of verification, or null. */
    default String problemOfKnown(Probe got) {
        return problem(known(), got);
    }
}
